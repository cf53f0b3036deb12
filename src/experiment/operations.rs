//! What several experiments time: queues of products, steps of a model.

use super::lab::{Case, Lab};
use crate::machine::bandwidth::BEYOND_CACHES;
use crate::measure::cost::ForwardTimer;
use crate::model::layers::Linear;
use crate::model::synthetic::{self, Synthetic};
use crate::model::timed::TimedModel;
use crate::model::transformer::Transformer;
use crate::model::weights::{LoadOptions, Tensors};
use crate::results::SampleRow;
use crate::roofline::Forward;
use crate::scenario::Quantization;
use anyhow::Result;
use mlx_rs::ops::ones_dtype;
use mlx_rs::transforms::eval;
use mlx_rs::{Array, Dtype};
use std::time::Instant;

/// Steps of a timed pipelined chain.
pub const STEPS: usize = 8;
/// Products in a queue at least.
const SHORTEST_QUEUE: usize = 16;
/// Matrices in a queue at most.
const MOST_MATRICES: u64 = 512;

/// Seconds of evaluating what `build` makes, the making not counted.
pub fn evaluation_seconds(build: impl FnOnce() -> Result<Vec<Array>>) -> Result<f64> {
    let arrays = build()?;
    let started = Instant::now();
    eval(&arrays)?;
    Ok(started.elapsed().as_secs_f64())
}

/// Random weights: as many layers of these sizes as are together larger than any cache, so that each reads from memory.
pub fn linears(outputs: u64, inputs: u64, dtype: Dtype, quantize: Option<Quantization>) -> Result<Vec<Linear>> {
    let options = LoadOptions { dtype: Some(dtype), quantize };
    let one = synthetic::bytes(&options, outputs * inputs);
    let count = (BEYOND_CACHES as u64).div_ceil(one).clamp(2, MOST_MATRICES);
    let mut weights = Synthetic::new(&options, outputs, count * one)?;
    let mut layer = |_| Linear::new(weights.take_matrix("", outputs as i32, inputs as i32)?);
    (0..count).map(&mut layer).collect()
}

/// A queue of products of one row with square matrices, each on what the one before gave.
pub fn square<'m>(lab: &Lab, subject: &str, n: u64, dtype: Dtype, quantize: Option<Quantization>) -> Result<Case<'m>> {
    let layers = linears(n, n, dtype, quantize)?;
    let chain = layers.len().max(SHORTEST_QUEUE);
    let x = ones_dtype(&[1, 1, n as i32], dtype)?;
    eval([&x])?;
    let weight_bytes = layers[0].nbytes();
    let touched = Some(weight_bytes * layers.len() as u64);
    let row = SampleRow {
        precision: precision(dtype, quantize),
        outputs: Some(n),
        inputs: Some(n),
        width: Some(1),
        chain: chain as u64,
        bytes: weight_bytes + 2 * n * x.item_size() as u64,
        flops: 2.0 * (n * n) as f64,
        ..lab.row(subject)
    };
    let run = move || {
        evaluation_seconds(|| {
            let mut y = x.clone();
            for layer in layers.iter().cycle().take(chain) {
                y = layer.forward(&y)?;
            }
            Ok(vec![y])
        })
    };
    Ok(Case { row, touched, run: Box::new(run) })
}

/// How arrays are held, for people.
pub fn precision(dtype: Dtype, quantize: Option<Quantization>) -> String {
    let dtype = format!("{dtype:?}").to_lowercase();
    quantize.map_or(dtype.clone(), |Quantization { bits, group_size }| format!("{bits}-bit:{group_size} {dtype}"))
}

/// The row of a forward of `model`.
pub fn forward_row(lab: &Lab, model: &TimedModel, subject: &str, forward: Forward) -> SampleRow {
    let shape = model.transformer.shape();
    SampleRow {
        model: model.name.clone(),
        precision: model.transformer.precision(),
        context: Some(forward.context),
        batch: Some(forward.batch),
        width: Some(forward.width),
        bytes: shape.bytes(forward),
        flops: shape.flops(forward) as f64,
        ..lab.row(subject)
    }
}

/// Pipelined plain decoding behind `context` tokens.
pub fn steps<'m>(lab: &Lab, model: &'m TimedModel, context: u64) -> Result<Case<'m>> {
    steps_of(lab, model, &model.transformer, "step", context)
}

/// Pipelined plain decoding with a transformer that is, or was made of, `model`'s.
pub fn steps_of<'m>(
    lab: &Lab,
    model: &TimedModel,
    transformer: &'m Transformer,
    subject: &str,
    context: u64,
) -> Result<Case<'m>> {
    let text = model.tokens(context as usize + STEPS);
    let mut timer = ForwardTimer::new(transformer, &text, context as usize, STEPS, 1)?;
    // The context grows by a token each step; the middle one stands for all.
    let middle = Forward { context: context + STEPS as u64 / 2, width: 1, batch: 1 };
    let row = SampleRow { context: Some(context), chain: STEPS as u64, ..forward_row(lab, model, subject, middle) };
    let run = move || Ok(timer.pipelined(STEPS)? * STEPS as f64);
    Ok(Case { touched: Some(row.bytes), row, run: Box::new(run) })
}

/// A synchronous forward of `width` tokens behind `context` tokens.
pub fn synchronous<'m>(lab: &Lab, model: &'m TimedModel, context: u64, width: u64) -> Result<Case<'m>> {
    let text = model.tokens((context + width) as usize);
    let mut timer = ForwardTimer::new(&model.transformer, &text, context as usize, width as usize, 1)?;
    let row = forward_row(lab, model, "forward", Forward { context, width, batch: 1 });
    let run = move || timer.forward(width as usize);
    Ok(Case { touched: Some(row.bytes), row, run: Box::new(run) })
}
