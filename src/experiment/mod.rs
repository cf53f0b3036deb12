//! The twelve baseline experiments: what is varied, what is timed, and what the outcome says about each statement.
//!
//! How to add one: a file here with an [`Experiment`] (a function that times its cases in the [`Lab`], and a pure one that
//! weighs the statements from the samples), and one line in [`EXPERIMENTS`].

mod ablation;
mod accounting;
mod attention;
mod bandwidth;
mod bits;
mod components;
mod crossover;
mod evidence;
mod granularity;
mod kv_cache;
#[cfg(feature = "mlx")]
mod lab;
mod model_size;
#[cfg(feature = "mlx")]
mod operations;
mod peer;
mod roofline;
mod scale;

pub use evidence::{Baseline, Evidence, Quantity, Statement, baseline};
#[cfg(feature = "mlx")]
pub use lab::{Case, Lab, Limits};
pub use scale::{DEFAULT_TIME, ModelAt, Scale};

use anyhow::Result;

/// One experiment.
pub struct Experiment {
    /// From 1.
    pub id: u64,
    /// Names its file, `NN-name.csv`.
    pub name: &'static str,
    /// What it asks, in one sentence.
    pub question: &'static str,
    /// Times its cases.
    #[cfg(feature = "mlx")]
    pub measure: fn(&mut Lab) -> Result<()>,
    /// Weighs its statements.
    pub statements: fn(&Evidence) -> Result<Vec<Statement>>,
}

impl Experiment {
    /// The file of its samples.
    pub fn file(&self) -> String {
        format!("{:02}-{}.csv", self.id, self.name)
    }

    /// Whether a user's `word` means this one: its number, or its name.
    pub fn is(&self, word: &str) -> bool {
        word == self.name || word.parse() == Ok(self.id)
    }
}

/// All experiments, in order.
pub const EXPERIMENTS: &[Experiment] = &[
    bandwidth::EXPERIMENT,
    granularity::EXPERIMENT,
    components::EXPERIMENT,
    kv_cache::EXPERIMENT,
    attention::EXPERIMENT,
    accounting::EXPERIMENT,
    model_size::EXPERIMENT,
    crossover::EXPERIMENT,
    ablation::EXPERIMENT,
    roofline::EXPERIMENT,
    bits::EXPERIMENT,
    peer::EXPERIMENT,
];
