//! Prompts of growing length, forwards of growing width, and growing batches, against the roofline of measured ceilings.

use super::{Evidence, Experiment, Statement};
use anyhow::Result;

pub const EXPERIMENT: Experiment = Experiment {
    id: 10,
    name: "roofline",
    question: "What do more tokens in one forward cost, as a prompt, as a verification and as a batch?",
    #[cfg(feature = "mlx")]
    measure: measuring::measure,
    statements,
};

const PROMPT: &str = "prompt";
const WIDTH: &str = "forward";
const BATCH: &str = "batch";

#[cfg(feature = "mlx")]
mod measuring {
    use super::super::lab::{Case, Lab};
    use super::super::operations::{forward_row, synchronous};
    use super::{BATCH, PROMPT};
    use crate::model::timed::TimedModel;
    use crate::model::transformer::Logits;
    use crate::roofline::Forward;
    use anyhow::Result;
    use mlx_rs::Array;
    use std::time::Instant;

    pub fn measure(lab: &mut Lab) -> Result<()> {
        let (at, context) = (lab.scale.main.clone(), lab.scale.context);
        let model = lab.model(&at)?;
        let mut cases = Vec::new();
        for &width in &lab.scale.prompts {
            cases.push(prompt(lab, &model, width)?);
        }
        for &width in &lab.scale.widths {
            cases.push(synchronous(lab, &model, context, width)?);
        }
        for &batch in &lab.scale.batches {
            cases.push(batched(lab, &model, context, batch)?);
        }
        lab.time(cases)
    }

    /// A prompt of `width` tokens into an empty cache, with the logits of its last position.
    fn prompt<'m>(lab: &Lab, model: &'m TimedModel, width: u64) -> Result<Case<'m>> {
        let tokens = Array::from_slice(&model.tokens(width as usize), &[1, width as i32]);
        let mut row = forward_row(lab, model, PROMPT, Forward { context: 0, width, batch: 1 });
        // The head runs on one position.
        let shape = model.transformer.shape();
        row.flops -= (2 * shape.vocab * shape.hidden * (width - 1)) as f64;
        let transformer = &model.transformer;
        let run = move || {
            let mut cache = transformer.new_cache();
            let started = Instant::now();
            transformer.forward(&tokens, &mut cache, Logits::Last)?.eval()?;
            Ok(started.elapsed().as_secs_f64())
        };
        Ok(Case { touched: Some(row.bytes), row, run: Box::new(run) })
    }

    /// One token of each of `batch` sequences of `context` tokens.
    fn batched<'m>(lab: &Lab, model: &'m TimedModel, context: u64, batch: u64) -> Result<Case<'m>> {
        let transformer = &model.transformer;
        let count = (batch * context) as usize;
        let text = Array::from_slice(&model.tokens(count), &[batch as i32, context as i32]);
        let mut cache = transformer.new_cache();
        cache.reserve(context as i32 + 1);
        transformer.prefill(&text, None, &mut cache)?;
        let row = forward_row(lab, model, BATCH, Forward { context, width: 1, batch });
        let token = Array::from_slice(&model.tokens(batch as usize), &[batch as i32, 1]);
        let run = move || {
            let held = cache.len();
            let started = Instant::now();
            transformer.forward(&token, &mut cache, Logits::All)?.eval()?;
            let seconds = started.elapsed().as_secs_f64();
            cache.truncate(held);
            Ok(seconds)
        };
        Ok(Case { touched: Some(row.bytes), row, run: Box::new(run) })
    }
}

fn statements(evidence: &Evidence) -> Result<Vec<Statement>> {
    let of_width = |pass: &super::evidence::Pass, subject: &str, width: u64| {
        pass.find(subject, |row| row.width == Some(width))?.time_ms
    };
    let of_batch = |pass: &super::evidence::Pass, batch: u64| pass.find(BATCH, |row| row.batch == Some(batch))?.time_ms;
    let longest = evidence.scale.prompts.last().copied().unwrap_or(1);
    let gain = evidence
        .quantity(|pass| Some(longest as f64 * of_width(pass, PROMPT, 1)? / of_width(pass, PROMPT, longest)?))?;
    // Each width's time over that of one token.
    let relative =
        |width: u64| evidence.quantity(move |pass| Some(of_width(pass, WIDTH, width)? / of_width(pass, WIDTH, 1)?));
    let mut note = Vec::new();
    for &width in evidence.scale.widths.iter().filter(|width| **width > 1) {
        note.extend(relative(width)?.map(|quantity| format!("t({width})/t(1) = {:.2}", quantity.value)));
    }
    // Where a line from the widest forward back, at the slope of its last doubling, meets the time of one token.
    let ridge = evidence.quantity(|pass| {
        let widths = &evidence.scale.widths;
        let [.., before, last] = widths[..] else { return None };
        let (low, high) = (of_width(pass, WIDTH, before)?, of_width(pass, WIDTH, last)?);
        let (slope, one) = ((high - low) / (last - before) as f64, of_width(pass, WIDTH, 1)?);
        let width = last as f64 - (high - one) / slope;
        // A plateau above the time of one token meets it nowhere.
        (slope > 0.0 && width >= 1.0).then_some(width)
    })?;
    let step = evidence.samples.iter().find(|row| row.subject == WIDTH && row.width == Some(1));
    let by_ceilings = step.map_or(String::new(), |row| {
        let per_token = row.flops / evidence.ceilings.matrix_flops_per_s;
        let width = row.bytes as f64 / evidence.ceilings.forward_bytes_per_s() / per_token;
        format!("the measured ceilings meet at width {width:.1}")
    });
    Ok(vec![
        Statement::at_least(
            &format!("a prompt of {longest} tokens is read at least ten times as fast a token as one of 1"),
            "rate of the longest prompt over that of one token",
            gain,
            10.0,
        ),
        Statement::at_most("verifying 8 tokens is nearly free", "t(8)/t(1)", relative(8)?, 1.25)
            .noting(note.join(", ")),
        Statement::between(
            "the measured ridge lies between 10 and 20 tokens",
            "width at which the slope of wide forwards meets t(1)",
            ridge,
            10.0,
            20.0,
        )
        .noting(by_ceilings),
        Statement::between(
            "a batch of 8 costs what a width of 8 costs",
            "time of a batch of 8 over t(8)",
            evidence.quantity(|pass| Some(of_batch(pass, 8)? / of_width(pass, WIDTH, 8)?))?,
            0.9,
            1.2,
        ),
    ])
}
