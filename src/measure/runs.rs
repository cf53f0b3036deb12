//! One run of one arm on a model, and where two texts part.

use super::executor::Rules;
use crate::analysis::Arm;
use crate::decode::speculative::{self, Verification};
use crate::decode::{Request, Run, plain};
use crate::draft::Drafter;
use crate::model::transformer::{Logits, Transformer};
use anyhow::{Context, Result};
use mlx_rs::{Array, Dtype};
use std::collections::BTreeMap;

/// Drafters by the name that results use.
pub type Drafters = BTreeMap<String, Box<dyn Drafter>>;

/// One run of one arm; `supposed` as in [`Verification`].
pub fn run_arm(
    model: &Transformer,
    drafters: &mut Drafters,
    arm: &Arm,
    rules: &Rules,
    supposed: Option<&[usize]>,
    request: &Request,
) -> Result<Run> {
    if arm.draft_length == 0 {
        return plain::decode(model, request, &mut |_| ());
    }
    let drafter = drafters.get_mut(&arm.drafter).with_context(|| format!("there is no drafter '{}'", arm.drafter))?;
    drafter.stop_by(rules.stop.get(arm).cloned());
    let length = arm.draft_length as usize;
    let how = Verification { padding: rules.padding.clone(), supposed };
    speculative::decode_as(model, drafter.as_mut(), length, &how, request, &mut |_| ())
}

/// Where two texts part, if they do.
pub fn first_divergence(plain: &[u32], other: &[u32]) -> Option<usize> {
    plain.iter().zip(other).position(|(a, b)| a != b)
}

/// The gap between the two largest logits of plain decoding behind `text`.
pub fn logit_margin(model: &Transformer, text: &[u32]) -> Result<f32> {
    let mut cache = model.new_cache();
    crate::decode::prefill(model, &mut cache, text)?;
    let last = Array::from_slice(&text[text.len() - 1..], &[1, 1]);
    let logits = model.forward(&last, &mut cache, Logits::Last)?.as_dtype(Dtype::Float32)?;
    logits.eval()?;
    let (mut best, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
    for &logit in logits.try_as_slice::<f32>()? {
        if logit > best {
            (best, second) = (logit, best);
        } else if logit > second {
            second = logit;
        }
    }
    Ok(best - second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_is_the_first_difference() {
        assert_eq!(first_divergence(&[1, 2, 3], &[1, 2, 3]), None);
        assert_eq!(first_divergence(&[1, 2, 3], &[1, 5, 6]), Some(1));
    }
}
