//! AdamW (Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization"), float32 throughout, with the gradient's
//! global norm clipped; and the learning rate's course.

use mlx_rs::Array;
use mlx_rs::error::Result;
use serde::{Deserialize, Serialize};

/// What does not change while training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdamW {
    pub beta1: f32,
    pub beta2: f32,
    pub epsilon: f32,
    /// Of matrices; norms and biases do not decay.
    pub weight_decay: f32,
    /// The largest global norm that a gradient keeps.
    pub clip: f32,
}

/// Weights and moments, each a list in the decoder's order.
#[derive(Debug, Clone)]
pub struct State {
    pub weights: Vec<Array>,
    pub means: Vec<Array>,
    pub squares: Vec<Array>,
}

impl State {
    /// Weights before the first step.
    pub fn new(weights: Vec<Array>) -> Result<Self> {
        let zeros = || weights.iter().map(mlx_rs::ops::zeros_like).collect::<Result<Vec<_>>>();
        Ok(State { means: zeros()?, squares: zeros()?, weights })
    }

    /// All arrays: weights, means, squares.
    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.weights.iter().chain(&self.means).chain(&self.squares)
    }

    /// The same from that order.
    pub fn from_arrays(arrays: &[Array]) -> Self {
        let count = arrays.len() / 3;
        let part = |place: usize| arrays[place * count..(place + 1) * count].to_vec();
        State { weights: part(0), means: part(1), squares: part(2) }
    }
}

impl AdamW {
    /// `[learning rate, 1 - β₁ⁿ, 1 - β₂ⁿ]` for step n, counted from 1: what [`AdamW::update`] needs of a step.
    pub fn scalars(&self, learning_rate: f64, step: u64) -> [f32; 3] {
        let bias = |beta: f32| (1.0 - f64::from(beta).powf(step as f64)) as f32;
        [learning_rate as f32, bias(self.beta1), bias(self.beta2)]
    }

    /// The state after a step with `gradients`, and the gradients' global norm before clipping. `scalars`: `[3]`.
    pub fn update(&self, state: &State, gradients: &[Array], scalars: &Array) -> Result<(State, Array)> {
        let number = Array::from_f32;
        let scalar = |place: i32| scalars.take(Array::from_int(place));
        let (rate, mean_bias, square_bias) = (scalar(0)?, scalar(1)?, scalar(2)?);
        let mut norm = number(0.0);
        for gradient in gradients {
            norm = norm.add(gradient.square()?.sum(false)?)?;
        }
        let norm = norm.sqrt()?;
        let factor = mlx_rs::ops::minimum(number(self.clip).divide(norm.add(number(1e-6))?)?, number(1.0))?;
        let mut next = State { weights: Vec::new(), means: Vec::new(), squares: Vec::new() };
        for (place, gradient) in gradients.iter().enumerate() {
            let gradient = gradient.multiply(&factor)?;
            let moment = |old: &Array, beta: f32, new: &Array| -> Result<Array> {
                old.multiply(number(beta))?.add(new.multiply(number(1.0 - beta))?)
            };
            let mean = moment(&state.means[place], self.beta1, &gradient)?;
            let square = moment(&state.squares[place], self.beta2, &gradient.square()?)?;
            let spread = square.divide(&square_bias)?.sqrt()?.add(number(self.epsilon))?;
            let mut change = mean.divide(&mean_bias)?.divide(spread)?;
            let weight = &state.weights[place];
            if weight.ndim() > 1 {
                change = change.add(weight.multiply(number(self.weight_decay))?)?;
            }
            next.weights.push(weight.subtract(change.multiply(&rate)?)?);
            next.means.push(mean);
            next.squares.push(square);
        }
        Ok((next, norm))
    }
}

/// Linear warm-up, then half a cosine down to a tenth of the peak.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    pub peak: f64,
    pub warm_up: u64,
    /// Steps in all; none while that is not decided, and the rate then stays at its peak.
    pub steps: Option<u64>,
}

impl Schedule {
    /// The learning rate of a step, counted from 1.
    pub fn learning_rate(&self, step: u64) -> f64 {
        const FLOOR: f64 = 0.1;
        if step <= self.warm_up {
            return self.peak * step as f64 / self.warm_up as f64;
        }
        let Some(steps) = self.steps else { return self.peak };
        let progress = (step - self.warm_up) as f64 / steps.saturating_sub(self.warm_up).max(1) as f64;
        let cosine = (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos()) / 2.0;
        self.peak * (FLOOR + (1.0 - FLOOR) * cosine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_then_falls_to_a_tenth() {
        let schedule = Schedule { peak: 1.0, warm_up: 10, steps: Some(110) };
        let rates = [1, 5, 10, 60, 110].map(|step| schedule.learning_rate(step));
        for (rate, expected) in rates.iter().zip([0.1, 0.5, 1.0, 0.55, 0.1]) {
            assert!((rate - expected).abs() < 1e-12, "{rates:?}");
        }
        assert_eq!(Schedule { steps: None, ..schedule }.learning_rate(50), 1.0);
    }
}
