//! From logits to a token: greedy, temperature, nucleus (top-p).

use anyhow::Result;
use mlx_rs::ops::indexing::argmax_axis;
use mlx_rs::ops::{arange, argsort_axis, select, softmax_axis, zeros_like};
use mlx_rs::{Array, random};

use crate::usage;

/// How a token is drawn from logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the most probable token.
    pub temperature: f32,
    /// Mass that the kept tokens must reach, in (0, 1]; 1 keeps all.
    pub top_p: f32,
}

impl Sampling {
    /// Below this, scaled logits could leave the range of float32.
    const LEAST_TEMPERATURE: f32 = 1e-4;

    pub const GREEDY: Self = Self { temperature: 0.0, top_p: 1.0 };

    /// Checks the ranges: temperature 0 or at least 0.0001, top-p in (0, 1]. Errors are usage errors.
    pub fn new(temperature: f32, top_p: f32) -> Result<Self> {
        if !(temperature == 0.0 || (temperature >= Self::LEAST_TEMPERATURE && temperature.is_finite())) {
            return Err(usage!(
                "temperature {temperature} is out of range: give 0 (greedy) or a number from {} up",
                Self::LEAST_TEMPERATURE
            ));
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(usage!("top-p {top_p} is out of range: give a number above 0 and at most 1 (1 keeps all)"));
        }
        Ok(Self { temperature, top_p })
    }

    /// Whether the next token follows from the logits without chance.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// The distribution that [`sample`](Self::sample) draws from: `[..., V]` logits to `[..., V]` float32.
    ///
    /// The softmax at the temperature, then cut to its nucleus and scaled to sum 1 (Holtzman et al. 2020, "The Curious
    /// Case of Neural Text Degeneration"). The nucleus is the smallest set of most probable tokens whose mass reaches
    /// `top_p`; among equals the smaller token id comes first. The temperature acts before the cut, as in
    /// transformers; mlx-lm cuts at temperature 1 and scales what is left. Greedy gives all mass to one token.
    pub fn probabilities(&self, logits: &Array) -> Result<Array> {
        if self.is_greedy() {
            return one_hot(&argmax_axis(logits, -1, true)?, logits.dim(-1));
        }
        let probabilities = softmax_axis(self.scaled(logits)?, -1, true)?;
        if self.top_p < 1.0 { nucleus(&probabilities, self.top_p) } else { Ok(probabilities) }
    }

    /// One token for each row: `[..., V]` logits to `[...]` uint32. Greedy ignores the key.
    pub fn sample(&self, logits: &Array, key: &Array) -> Result<Array> {
        if self.is_greedy() {
            Ok(argmax_axis(logits, -1, false)?)
        } else if self.top_p < 1.0 {
            draw(&self.probabilities(logits)?, key)
        } else {
            Ok(random::categorical(self.scaled(logits)?, -1, None, key)?)
        }
    }

    fn scaled(&self, logits: &Array) -> Result<Array> {
        let logits = logits.as_type::<f32>()?;
        Ok(if self.temperature == 1.0 { logits } else { logits.divide(Array::from_f32(self.temperature))? })
    }
}

/// Draws one token a row from weights that need not sum to 1: `[..., V]` to `[...]` uint32. A weight of 0 is never drawn.
pub fn draw(weights: &Array, key: &Array) -> Result<Array> {
    Ok(random::categorical(weights.log()?, -1, None, key)?)
}

/// All mass on one token: `[..., 1]` token ids to `[..., V]` float32; an id outside the vocabulary gives zeros.
pub(crate) fn one_hot(token: &Array, vocabulary: i32) -> Result<Array> {
    let tokens = arange::<_, u32>(None, vocabulary, None)?;
    Ok(tokens.eq(token)?.as_type::<f32>()?)
}

fn nucleus(probabilities: &Array, top_p: f32) -> Result<Array> {
    let order = argsort_axis(probabilities.negative()?, -1)?;
    let sorted = probabilities.take_along_axis(&order, -1)?;
    let mass_before = sorted.cumsum(-1, false, false)?;
    let zero = Array::from_f32(0.0);
    let kept = select(mass_before.lt(Array::from_f32(top_p))?, &sorted, &zero)?;
    let kept_mass = kept.sum_axis(-1, true)?;
    Ok(zeros_like(probabilities)?.put_along_axis(&order, kept.divide(kept_mass)?, -1)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlx_rs::random::key;

    fn probabilities(sampling: Sampling, logits: &[f32]) -> Vec<f32> {
        let logits = Array::from_slice(logits, &[1, logits.len() as i32]);
        sampling.probabilities(&logits).unwrap().to_vec_exact().unwrap()
    }

    #[test]
    fn ranges_are_checked() {
        for (temperature, top_p) in [(-1.0, 1.0), (f32::NAN, 1.0), (f32::INFINITY, 1.0), (1e-9, 1.0), (1.0, 0.0)] {
            let error = Sampling::new(temperature, top_p).unwrap_err();
            assert_eq!(crate::error::exit_code(&error), 2, "{error}");
        }
        assert!(Sampling::new(1.0, 1.1).is_err() && Sampling::new(1.0, f32::NAN).is_err());
        assert!(Sampling::new(0.0, 1.0).unwrap().is_greedy());
    }

    #[test]
    fn the_nucleus_is_the_smallest_set_and_equals_go_by_id() {
        let equal = [0.0f32; 8];
        assert_eq!(probabilities(Sampling::new(1.0, 0.25).unwrap(), &equal), [0.5, 0.5, 0., 0., 0., 0., 0., 0.]);
        assert_eq!(
            probabilities(Sampling::new(1.0, 0.26).unwrap(), &equal)[..4],
            [1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0, 0.0]
        );
        assert_eq!(probabilities(Sampling::new(1.0, 1e-6).unwrap(), &[1.0, 3.0, 3.0]), [0.0, 1.0, 0.0]);
    }

    #[test]
    fn extreme_logits_and_temperatures_stay_finite() {
        for temperature in [1e-4, 1.0, 1e4] {
            let p = probabilities(Sampling::new(temperature, 0.9).unwrap(), &[1e4, -1e4, f32::NEG_INFINITY, 9e3]);
            assert!(p.iter().all(|x| x.is_finite()) && (p.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{p:?}");
        }
    }

    #[test]
    fn greedy_is_argmax_with_the_smaller_id_first() {
        let logits = Array::from_slice(&[1.0f32, 5.0, 5.0, 7.0, 2.0, 7.0], &[2, 3]);
        let sampled = Sampling::GREEDY.sample(&logits, &key(0).unwrap()).unwrap();
        assert_eq!(sampled.to_vec_exact::<u32>().unwrap(), [1, 0]);
        assert_eq!(probabilities(Sampling::GREEDY, &[1.0, 5.0, 5.0]), [0.0, 1.0, 0.0]);
    }

    #[test]
    fn half_precision_logits_are_sampled_in_float32() {
        let logits = Array::from_slice(&[1.0f32, 2.0], &[1, 2]).as_dtype(mlx_rs::Dtype::Bfloat16).unwrap();
        assert_eq!(Sampling::new(0.7, 1.0).unwrap().probabilities(&logits).unwrap().dtype(), mlx_rs::Dtype::Float32);
    }

    #[test]
    fn the_same_key_gives_the_same_tokens() {
        let logits = Array::from_slice(&[0.0f32; 4000], &[40, 100]);
        for sampling in [Sampling::new(1.0, 1.0).unwrap(), Sampling::new(0.8, 0.9).unwrap()] {
            let tokens =
                |seed| -> Vec<u32> { sampling.sample(&logits, &key(seed).unwrap()).unwrap().to_vec_exact().unwrap() };
            assert_eq!(tokens(5), tokens(5));
            assert_ne!(tokens(5), tokens(6));
        }
    }
}
