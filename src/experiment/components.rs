//! A step's parts, each timed alone, against the step itself.

use super::{Evidence, Experiment, Statement};
use anyhow::Result;

pub const EXPERIMENT: Experiment = Experiment {
    id: 3,
    name: "components",
    question: "What does a step consist of, and do its parts add up to it?",
    #[cfg(feature = "mlx")]
    measure: measuring::measure,
    statements,
};

/// The parts that are timed, by name.
const PARTS: [&str; 6] =
    ["attention products", "MLP products", "norms", "attention over the cache", "activation", "head"];

#[cfg(feature = "mlx")]
mod measuring {
    use super::super::lab::{Case, Lab};
    use super::super::operations::{forward_row, steps, synchronous};
    use crate::decode::prefill;
    use crate::model::timed::TimedModel;
    use crate::model::transformer::parts::{Evaluate, Part};
    use crate::results::SampleRow;
    use crate::roofline::{Forward, ModelShape};
    use anyhow::Result;
    use mlx_rs::transforms::eval;
    use std::time::Instant;

    pub fn measure(lab: &mut Lab) -> Result<()> {
        let (at, context) = (lab.scale.main.clone(), lab.scale.context);
        let model = lab.model(&at)?;
        let mut cases = vec![steps(lab, &model, context)?, synchronous(lab, &model, context, 1)?];
        for part in
            [Part::AttentionProducts, Part::MlpProducts, Part::Norms, Part::Attention, Part::Activation, Part::Head]
        {
            cases.push(case(lab, &model, part, Evaluate::Once, context)?);
            cases.push(case(lab, &model, part, Evaluate::Each, context)?);
        }
        lab.time(cases)
    }

    fn case<'m>(lab: &Lab, model: &'m TimedModel, part: Part, evaluate: Evaluate, context: u64) -> Result<Case<'m>> {
        let transformer = &model.transformer;
        let x = transformer.part_input(part)?;
        eval([&x])?;
        let mut cache = transformer.new_cache();
        cache.reserve(context as i32 + 1);
        prefill(transformer, &mut cache, &model.tokens(context as usize + 1))?;
        let subject = match evaluate {
            Evaluate::Once => part.to_string(),
            Evaluate::Each => format!("{part}, evaluated each"),
        };
        let (bytes, flops) = moved(&transformer.shape(), part, context);
        let forward = Forward { context, width: 1, batch: 1 };
        let row = SampleRow { bytes, flops, ..forward_row(lab, model, &subject, forward) };
        let run = move || {
            let held = cache.len();
            let started = Instant::now();
            eval([&transformer.run_part(part, &x, &mut cache, evaluate)?])?;
            let seconds = started.elapsed().as_secs_f64();
            cache.truncate(held);
            Ok(seconds)
        };
        Ok(Case { touched: Some(row.bytes), row, run: Box::new(run) })
    }

    /// Bytes and operations of one part of all layers, for one token. A part's are what the whole has more than the whole
    /// without it.
    fn moved(shape: &ModelShape, part: Part, context: u64) -> (u64, f64) {
        let token = Forward { context: 0, width: 1, batch: 1 };
        let none =
            ModelShape { heads: 0, kv_heads: 0, intermediate: 0, vocab: 0, activation_bytes: 0, ..shape.clone() };
        let of = |shape: &ModelShape| (shape.weight_bytes(), shape.flops(token) as f64);
        match part {
            Part::AttentionProducts => {
                let (bytes, flops) = of(&ModelShape { heads: shape.heads, kv_heads: shape.kv_heads, ..none });
                // Less what attention itself does with the one token.
                (bytes, flops - (4 * shape.layers * shape.heads * shape.head_dim) as f64)
            }
            Part::MlpProducts => of(&ModelShape { intermediate: shape.intermediate, ..none }),
            Part::Head => of(&ModelShape { vocab: shape.vocab, ..none }),
            Part::Attention => {
                let pairs = 4 * shape.layers * shape.heads * shape.head_dim * (context + 1);
                ((context + 1) * shape.kv_bytes_per_token(), pairs as f64)
            }
            // Vectors that need not leave the chip.
            _ => (0, 0.0),
        }
    }
}

fn statements(evidence: &Evidence) -> Result<Vec<Statement>> {
    let sum = |suffix: &'static str| {
        evidence.quantity(move |pass| {
            let parts: Option<Vec<f64>> = PARTS.iter().map(|part| pass.ms(&format!("{part}{suffix}"))).collect();
            Some(parts?.iter().sum::<f64>() / pass.ms("forward")?)
        })
    };
    let share = |part: &'static str| evidence.quantity(move |pass| Some(pass.ms(part)? / pass.ms("forward")?));
    let shares: Vec<String> =
        PARTS.iter().filter_map(|part| Some(format!("{part} {:.0} %", 100.0 * share(part).ok()??.value))).collect();
    Ok(vec![
        Statement::at_least(
            "parts timed with an evaluation each add up to far more than a step",
            "sum of the parts, each operation evaluated, over a synchronous step",
            sum(", evaluated each")?,
            1.5,
        ),
        Statement::between(
            "parts timed in one evaluation each add up to a step",
            "sum of the parts over a synchronous step",
            sum("")?,
            0.85,
            1.15,
        )
        .noting(format!("shares of the step: {}", shares.join(", "))),
        Statement::at_most(
            "pipelining hides a part of a step",
            "pipelined over synchronous time of a step",
            evidence.quantity(|pass| Some(pass.ms("step")? / pass.ms("forward")?))?,
            0.95,
        ),
    ])
}
