//! Progress on the terminal.

use crate::measure::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;

/// Progress on standard error; draws only when told of a step, never by itself.
pub struct Screen {
    bar: ProgressBar,
    quiet: bool,
}

impl Screen {
    pub fn new(quiet: bool) -> Self {
        let hidden = quiet || !std::io::stderr().is_terminal();
        let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let style = "{msg:36} {bar:30} {pos}/{len}  {elapsed} of about {duration}";
        bar.set_style(ProgressStyle::with_template(style).expect("the template is valid"));
        Screen { bar, quiet }
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Screen {
    fn stage(&mut self, name: &str, steps: u64) {
        self.bar.finish_and_clear();
        self.bar.reset();
        self.bar.set_length(steps);
        self.bar.set_message(name.to_owned());
        if self.bar.is_hidden() && !self.quiet {
            eprintln!("{name}");
        }
    }

    fn step(&mut self) {
        self.bar.inc(1);
    }

    fn note(&mut self, text: &str) {
        self.bar.suspend(|| eprintln!("note: {text}"));
    }
}
