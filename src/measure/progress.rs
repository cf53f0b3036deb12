//! What is told while measuring, between timed regions.

/// Told what is going on, between timed regions only.
pub trait Progress {
    /// A stage of `steps` steps begins.
    fn stage(&mut self, name: &str, steps: u64);
    /// One step of the stage is done.
    fn step(&mut self);
    /// Something that the reader should know.
    fn note(&mut self, text: &str);
}

/// Says nothing.
impl Progress for () {
    fn stage(&mut self, _: &str, _: u64) {}
    fn step(&mut self) {}
    fn note(&mut self, _: &str) {}
}
