//! A step's time split into its bytes at the ceiling, what the same graph costs with next to no bytes, and the rest; and
//! the size of weights at which the bytes take as long as everything else.

use super::{Evidence, Experiment, Statement};
use anyhow::Result;

pub const EXPERIMENT: Experiment = Experiment {
    id: 8,
    name: "crossover",
    question: "How much of a step is bytes, how much launches and graph, and where do they weigh the same?",
    #[cfg(feature = "mlx")]
    measure: measuring::measure,
    statements,
};

#[cfg(feature = "mlx")]
mod measuring {
    use super::super::lab::{Case, Lab};
    use super::super::operations::{forward_row, steps, steps_of};
    use crate::decode::prefill;
    use crate::model::config::Config;
    use crate::model::timed::TimedModel;
    use crate::model::transformer::Transformer;
    use crate::model::weights::LoadOptions;
    use crate::results::SampleRow;
    use crate::roofline::Forward;
    use anyhow::Result;
    use mlx_rs::Array;
    use std::path::Path;
    use std::time::Instant;

    /// Graphs built in a sample.
    const GRAPHS: usize = 10;

    pub fn measure(lab: &mut Lab) -> Result<()> {
        let context = lab.scale.context;
        let mut models = Vec::new();
        for at in lab.scale.family.clone() {
            let model = lab.model(&at)?;
            let options = LoadOptions { dtype: Some(model.transformer.dtype()), quantize: at.quantize };
            let skeleton =
                crate::model::synthetic_of(Path::new(&at.model), smallest(&model.transformer.config), &options, 8)?;
            models.push((model, skeleton));
        }
        let mut cases = Vec::new();
        for (model, skeleton) in &models {
            // A model that cannot be run leaves the others.
            match split(lab, model, skeleton, context) {
                Ok(three) => cases.extend(three),
                Err(error) => lab.note_failure(&model.name, &error)?,
            }
        }
        lab.time(cases)
    }

    /// A step, the same graph with next to no bytes, and its building alone.
    fn split<'m>(lab: &Lab, model: &'m TimedModel, skeleton: &'m Transformer, context: u64) -> Result<[Case<'m>; 3]> {
        let mut bare = steps_of(lab, model, skeleton, "same graph, smallest sizes", context)?;
        let forward = Forward { context, width: 1, batch: 1 };
        (bare.row.bytes, bare.row.flops) = (skeleton.shape().bytes(forward), skeleton.shape().flops(forward) as f64);
        Ok([steps(lab, model, context)?, bare, graph(lab, model, context)?])
    }

    /// The same layers and kinds of operations with every size at its smallest.
    fn smallest(config: &Config) -> Config {
        const SIZE: i32 = 64;
        Config {
            hidden_size: SIZE,
            intermediate_size: SIZE,
            num_heads: 1,
            num_kv_heads: 1,
            head_dim: SIZE,
            vocab_size: SIZE,
            ..config.clone()
        }
    }

    /// Building a step's graph without evaluating it.
    fn graph<'m>(lab: &Lab, model: &'m TimedModel, context: u64) -> Result<Case<'m>> {
        let transformer: &Transformer = &model.transformer;
        let mut cache = transformer.new_cache();
        cache.reserve(context as i32 + 1);
        prefill(transformer, &mut cache, &model.tokens(context as usize + 1))?;
        let token = Array::from_slice(&[0u32], &[1, 1]);
        let forward = Forward { context, width: 1, batch: 1 };
        let row = SampleRow {
            bytes: 0,
            flops: 0.0,
            chain: GRAPHS as u64,
            ..forward_row(lab, model, "building the graph", forward)
        };
        let run = move || {
            let mut seconds = 0.0;
            for _ in 0..GRAPHS {
                let started = Instant::now();
                let logits = transformer.build_only(&token, &mut cache)?;
                seconds += started.elapsed().as_secs_f64();
                // Evaluated outside the timed region, so that graphs do not pile up in the cache's buffers.
                logits.eval()?;
            }
            Ok(seconds)
        };
        Ok(Case { touched: None, row, run: Box::new(run) })
    }
}

fn statements(evidence: &Evidence) -> Result<Vec<Statement>> {
    let ceiling = evidence.ceilings.forward_bytes_per_s();
    // Per model and pass: milliseconds of bytes at the ceiling, of the bare graph, and the rest.
    let split = |pass: &super::evidence::Pass, model: &str| -> Option<[f64; 3]> {
        let step = pass.find("step", |row| row.model == model)?;
        let bare = pass.find("same graph, smallest sizes", |row| row.model == model)?.time_ms?;
        let bytes = 1e3 * step.bytes as f64 / ceiling;
        Some([bytes, bare, step.time_ms? - bytes - bare])
    };
    let family: Vec<&str> = evidence.scale.family.iter().map(|at| at.model.as_str()).collect();
    let mut note = Vec::new();
    for &model in &family {
        let part = |place: usize| evidence.quantity(|pass| split(pass, model).map(|parts| parts[place]));
        if let [Some(bytes), Some(bare), Some(rest)] = [part(0)?, part(1)?, part(2)?] {
            note.push(format!(
                "{model}: bytes {:.2} ms, bare graph {:.2}, rest {:.2}",
                bytes.value, bare.value, rest.value
            ));
        }
    }
    let overhead = |pass: &super::evidence::Pass, model: &str| split(pass, model).map(|[_, bare, rest]| bare + rest);
    let constant = evidence.quantity(|pass| {
        let all: Option<Vec<f64>> = family.iter().map(|model| overhead(pass, model)).collect();
        let all = all.filter(|all| all.len() > 1)?;
        Some(all.iter().copied().fold(0.0, f64::max) / all.iter().copied().fold(f64::INFINITY, f64::min))
    })?;
    // Bytes that take as long at the ceiling as everything else takes in the median model of the family.
    let crossover = evidence.quantity(|pass| {
        let mut all: Vec<f64> = family.iter().filter_map(|model| overhead(pass, model)).collect();
        all.sort_by(f64::total_cmp);
        Some(all.get(all.len() / 2)? / 1e3 * ceiling / 1e9)
    })?;
    let binds = evidence.quantity(|pass| {
        let [bytes, bare, rest] = split(pass, family.first()?)?;
        Some(bytes / (bytes + bare + rest))
    })?;
    Ok(vec![
        Statement::at_most(
            "what is not bytes takes the same time whatever the model's size",
            "largest over smallest time that bytes do not explain",
            constant,
            1.6,
        )
        .noting(note.join("; ")),
        Statement::between(
            "bytes and everything else weigh the same at 2 to 4 GB a step",
            "GB at which they do",
            crossover,
            2.0,
            4.0,
        ),
        Statement::at_most(
            "in the smallest model bytes are the smaller part of a step",
            "share of the bytes' time in a step",
            binds,
            0.5,
        ),
    ])
}
