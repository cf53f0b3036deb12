//! A machine that is made up: timings of arms on prompts, with the disturbances of a real one, in the order taken.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal, StandardNormal, StudentT};
use serde::{Deserialize, Serialize};

use super::study::{Study, check};
use crate::stats::error::{Result, check_between};

/// In which order the cells are timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Randomised complete blocks: all arms on a prompt in random order, then the next prompt.
    Interleaved,
    /// All prompts of one arm, then the next arm: the order that drift deceives.
    ByArm,
}

/// What disturbs the timings. All sizes are relative to the true time of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Noise {
    /// Standard deviation of the logarithm of a prompt's length.
    pub prompt_sd: f64,
    /// Standard deviation of what one arm gains or loses on one prompt.
    pub interaction_sd: f64,
    /// Standard deviation of a single timing.
    pub timing_sd: f64,
    /// Correlation of neighbouring timings, from 0 to below 1.
    pub autocorrelation: f64,
    /// Slow-down from the first to the last timing (0.06 is 6 %).
    pub drift: f64,
    /// Degrees of freedom of t-distributed timing noise, above 2; none is normal.
    pub tail_freedom: Option<f64>,
    /// Chance that a timing is hit by a hiccup.
    pub hiccup_chance: f64,
    /// What a hiccup adds.
    pub hiccup_size: f64,
}

impl Noise {
    /// Independent normal noise as of a quiet machine.
    pub const QUIET: Noise = Noise {
        prompt_sd: 0.4,
        interaction_sd: 0.02,
        timing_sd: 0.02,
        autocorrelation: 0.0,
        drift: 0.0,
        tail_freedom: None,
        hiccup_chance: 0.0,
        hiccup_size: 0.0,
    };

    /// Refuses sizes that no machine has.
    pub fn check(&self) -> Result<()> {
        for (name, sd) in [
            ("prompt_sd", self.prompt_sd),
            ("interaction_sd", self.interaction_sd),
            ("timing_sd", self.timing_sd),
            ("hiccup_size", self.hiccup_size),
        ] {
            check_between(name, sd, -f64::MIN_POSITIVE, f64::INFINITY, "at least 0")?;
        }
        check_between("drift", self.drift, -1.0, f64::INFINITY, "above -1, for example 0.06")?;
        check_between("autocorrelation", self.autocorrelation, -f64::MIN_POSITIVE, 1.0, "at least 0 and below 1")?;
        check_between("hiccup_chance", self.hiccup_chance, -f64::MIN_POSITIVE, 1.0 + f64::EPSILON, "between 0 and 1")?;
        let freedom = self.tail_freedom.unwrap_or(3.0);
        check_between("tail_freedom", freedom, 2.0, f64::INFINITY, "above 2, for example 3")
    }
}

impl Default for Noise {
    fn default() -> Noise {
        Noise::QUIET
    }
}

/// What disturbs one timing after the other. It remembers how many were taken, for drift and autocorrelation.
#[derive(Debug, Clone)]
pub struct Disturbances {
    noise: Noise,
    /// Timings at which drift reaches its full size.
    timings: usize,
    taken: usize,
    previous: f64,
}

impl Disturbances {
    pub fn new(noise: Noise, timings: usize) -> Disturbances {
        Disturbances { noise, timings, taken: 0, previous: 0.0 }
    }

    /// How many were taken.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// What the next timing takes longer or shorter, relative to its true time.
    pub fn next(&mut self, rng: &mut ChaCha8Rng) -> f64 {
        let noise = &self.noise;
        let innovation = match noise.tail_freedom {
            // Scaled to unit variance.
            Some(freedom) => {
                let t = StudentT::new(freedom).expect("checked");
                t.sample(rng) * ((freedom - 2.0) / freedom).sqrt()
            }
            None => StandardNormal.sample(rng),
        };
        let correlation = noise.autocorrelation;
        let fresh = if self.taken == 0 { 1.0 } else { (1.0 - correlation * correlation).sqrt() };
        self.previous = correlation * self.previous + fresh * innovation;
        let elapsed = self.taken as f64 / (self.timings - 1).max(1) as f64;
        self.taken += 1;
        let hiccup = if rng.random_bool(noise.hiccup_chance.min(1.0)) { noise.hiccup_size } else { 0.0 };
        noise.timing_sd * self.previous + noise.drift * elapsed + hiccup
    }
}

/// The machine at work: it remembers how much it has timed, for drift and autocorrelation.
pub struct Bench<'a> {
    study: &'a Study,
    rng: ChaCha8Rng,
    /// Relative length of each prompt.
    lengths: Vec<f64>,
    /// Drift reaches its full size at the end of a full grid.
    disturbances: Disturbances,
}

/// One run of a study: `seconds[prompt][arm]`, the same for the same seed.
pub fn timings(study: &Study, seed: u64) -> Result<Vec<Vec<f64>>> {
    check(study)?;
    Ok(Bench::new(study, seed).full_grid())
}

impl<'a> Bench<'a> {
    /// A machine for a study that was checked.
    pub(super) fn new(study: &'a Study, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let length = Normal::new(0.0, study.noise.prompt_sd).expect("checked");
        let lengths = (0..study.prompts).map(|_| f64::exp(length.sample(&mut rng))).collect();
        Bench { study, rng, lengths, disturbances: Disturbances::new(study.noise, study.prompts * study.costs.len()) }
    }

    /// All cells of the study in its order: `seconds[prompt][arm]`.
    pub fn full_grid(&mut self) -> Vec<Vec<f64>> {
        let (prompts, arms) = (self.study.prompts, self.study.costs.len());
        let all: Vec<usize> = (0..arms).collect();
        match self.study.order {
            Order::Interleaved => (0..prompts).map(|prompt| self.block(prompt, &all)).collect(),
            Order::ByArm => {
                let mut seconds = vec![vec![0.0; arms]; prompts];
                for arm in 0..arms {
                    seconds.iter_mut().enumerate().for_each(|(prompt, row)| row[arm] = self.time(prompt, arm));
                }
                seconds
            }
        }
    }

    /// Some arms on one prompt, timed in random order; seconds in the order of `arms`.
    pub fn block(&mut self, prompt: usize, arms: &[usize]) -> Vec<f64> {
        let mut order: Vec<usize> = (0..arms.len()).collect();
        order.shuffle(&mut self.rng);
        let mut seconds = vec![0.0; arms.len()];
        order.into_iter().for_each(|place| seconds[place] = self.time(prompt, arms[place]));
        seconds
    }

    fn time(&mut self, prompt: usize, arm: usize) -> f64 {
        let interaction: f64 = StandardNormal.sample(&mut self.rng);
        let factor =
            (1.0 + self.study.noise.interaction_sd * interaction) * (1.0 + self.disturbances.next(&mut self.rng));
        // A timing is positive, whatever the noise.
        self.lengths[prompt] * self.study.costs[arm] * factor.max(0.05)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STILL: Noise = Noise { prompt_sd: 0.0, interaction_sd: 0.0, timing_sd: 0.0, ..Noise::QUIET };

    fn study(noise: Noise, order: Order) -> Study {
        Study {
            name: "test".into(),
            costs: vec![1.0; 3],
            prompts: 30,
            noise,
            order,
            method: None,
            confidence: 0.95,
            margin: 0.02,
            runs: 2,
            draws: 10,
            resamples: 10,
            seed: 1,
        }
    }

    #[test]
    fn within_a_prompt_the_arms_come_in_random_order() {
        let drifting = study(Noise { drift: 1.0, ..STILL }, Order::Interleaved);
        let seconds = Bench::new(&drifting, 1).full_grid();
        // With drift alone the first of a prompt is the fastest.
        let first = |row: &Vec<f64>| (0..3).min_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
        let counts = seconds.iter().map(first).fold([0; 3], |mut counts, arm| {
            counts[arm] += 1;
            counts
        });
        assert!(counts.iter().all(|&count| count >= 3), "{counts:?}");
        let last = seconds.iter().flatten().copied().fold(0.0, f64::max);
        assert!((last - 2.0).abs() < 1e-12);
    }

    #[test]
    fn arm_by_arm_the_drift_falls_on_the_later_arms() {
        let drifting = study(Noise { drift: 1.0, ..STILL }, Order::ByArm);
        let seconds = Bench::new(&drifting, 1).full_grid();
        assert!(seconds.iter().all(|row| row[0] < row[1] && row[1] < row[2]));
    }

    #[test]
    fn noise_has_the_size_that_was_declared() {
        let spread = |noise: Noise| {
            let seconds = Bench::new(&study(noise, Order::ByArm), 1).full_grid().concat();
            crate::stats::summary::variance_of(&seconds).sqrt()
        };
        assert_eq!(spread(STILL), 0.0);
        assert!((spread(Noise { timing_sd: 0.1, ..STILL }) - 0.1).abs() < 0.02);
        assert!((spread(Noise { timing_sd: 0.1, autocorrelation: 0.5, ..STILL }) - 0.1).abs() < 0.03);
        assert!((spread(Noise { hiccup_chance: 0.5, hiccup_size: 0.2, ..STILL }) - 0.1).abs() < 0.02);
    }
}
