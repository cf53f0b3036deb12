//! How often the lazy graph of a step's products is evaluated: after each product, after each layer, once. And what an
//! evaluation costs by itself.

use super::{Evidence, Experiment, Statement};
use anyhow::Result;

pub const EXPERIMENT: Experiment = Experiment {
    id: 2,
    name: "granularity",
    question: "What does it cost to evaluate after every product or layer instead of once?",
    #[cfg(feature = "mlx")]
    measure: measuring::measure,
    statements,
};

/// Products of a layer.
const PRODUCTS: u64 = 7;

#[cfg(feature = "mlx")]
mod measuring {
    use super::super::lab::{Case, Lab};
    use super::PRODUCTS;
    use crate::model::layers::Linear;
    use crate::model::synthetic::{self, Synthetic};
    use crate::model::weights::{LoadOptions, Tensors};
    use crate::results::SampleRow;
    use anyhow::Result;
    use mlx_rs::Array;
    use mlx_rs::ops::ones_dtype;
    use mlx_rs::transforms::eval;
    use std::rc::Rc;
    use std::time::Instant;

    /// Evaluations of next to nothing in a sample of the floor.
    const FLOOR: usize = 200;

    #[derive(Clone, Copy, PartialEq)]
    enum Evaluate {
        Product,
        Layer,
        Once,
    }

    pub fn measure(lab: &mut Lab) -> Result<()> {
        let at = lab.scale.main.clone();
        let model = lab.model(&at)?;
        let config = &model.transformer.config;
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let (heads, kv) = (config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim);
        let dtype = model.transformer.dtype();
        let options = LoadOptions { dtype: Some(dtype), quantize: at.quantize };
        let bytes = synthetic::bytes(&options, config.parameters());
        let mut weights = Synthetic::new(&options, 1, bytes)?;
        let mut linear = |outputs, inputs| Ok(Linear::new(weights.take_matrix("", outputs, inputs)?));
        let sizes = [(heads, hidden), (kv, hidden), (kv, hidden), (hidden, heads), (inner, hidden), (inner, hidden)];
        let layer = |_| -> Result<Vec<Linear>> {
            sizes.iter().chain([&(hidden, inner)]).map(|(outputs, inputs)| linear(*outputs, *inputs)).collect()
        };
        let layers: Rc<Vec<Vec<Linear>>> = Rc::new((0..config.num_layers).map(layer).collect::<Result<_>>()?);
        let x = ones_dtype(&[1, 1, hidden], dtype)?;
        eval([&x])?;
        let bytes: u64 = layers.iter().flatten().map(Linear::nbytes).sum();
        let multiply_adds: i64 =
            sizes.iter().chain([&(hidden, inner)]).map(|(o, i)| i64::from(*o) * i64::from(*i)).sum();
        let flops = 2.0 * multiply_adds as f64 * f64::from(config.num_layers);
        let mut cases = Vec::new();
        for (subject, evaluate) in [
            ("evaluated each product", Evaluate::Product),
            ("evaluated each layer", Evaluate::Layer),
            ("evaluated once", Evaluate::Once),
        ] {
            let row = SampleRow {
                model: model.name.clone(),
                precision: model.transformer.precision(),
                // Products of the pass.
                outputs: Some(PRODUCTS * layers.len() as u64),
                width: Some(1),
                bytes,
                flops,
                ..lab.row(subject)
            };
            let (layers, x) = (Rc::clone(&layers), x.clone());
            cases.push(Case { row, touched: Some(bytes), run: Box::new(move || products(&layers, &x, evaluate)) });
        }
        let row =
            SampleRow { precision: "float32".into(), chain: FLOOR as u64, ..lab.row("evaluation of one addition") };
        let one = Array::from_f32(1.0);
        let floor = move || {
            let mut x = one.clone();
            let started = Instant::now();
            for _ in 0..FLOOR {
                x = x.add(&one)?;
                eval([&x])?;
            }
            Ok(started.elapsed().as_secs_f64())
        };
        cases.push(Case { row, touched: None, run: Box::new(floor) });
        lab.time(cases)
    }

    /// All products of all layers: queries go through the output product, the gate's outputs through the last one, so that
    /// a layer waits for the one before; keys, values and up products are evaluated with them.
    fn products(layers: &[Vec<Linear>], x: &Array, evaluate: Evaluate) -> Result<f64> {
        let started = Instant::now();
        let mut kept = Vec::new();
        let mut x = x.clone();
        for layer in layers {
            let mut product = |place: usize, x: &Array| -> Result<Array> {
                let y = layer[place].forward(x)?;
                if evaluate == Evaluate::Product {
                    eval([&y])?;
                }
                kept.push(y.clone());
                Ok(y)
            };
            let queries = product(0, &x)?;
            product(1, &x)?;
            product(2, &x)?;
            let y = product(3, &queries)?;
            let gate = product(4, &y)?;
            product(5, &y)?;
            x = product(6, &gate)?;
            if evaluate == Evaluate::Layer {
                eval(kept.drain(..).collect::<Vec<_>>().iter())?;
            }
        }
        eval(&kept)?;
        Ok(started.elapsed().as_secs_f64())
    }
}

fn statements(evidence: &Evidence) -> Result<Vec<Statement>> {
    let ratio = |first: &'static str, second: &'static str| {
        evidence.quantity(move |pass| Some(pass.ms(first)? / pass.ms(second)?))
    };
    let share = evidence.quantity(|pass| {
        Some(pass.one("evaluated once")?.bandwidth_gb_s? * 1e9 / evidence.ceilings.forward_bytes_per_s())
    })?;
    let explained = evidence.quantity(|pass| {
        let each = pass.one("evaluated each product")?;
        let more = each.time_ms? - pass.ms("evaluated once")?;
        Some(more / (each.outputs? as f64 - 1.0) / pass.ms("evaluation of one addition")?)
    })?;
    let floor = evidence.quantity(|pass| pass.ms("evaluation of one addition"))?;
    let floor = floor.map_or(String::new(), |floor| format!("one evaluation takes {:.1} µs", 1e3 * floor.value));
    Ok(vec![
        Statement::at_least(
            "evaluating once is much faster than after every product",
            "time with an evaluation each product over the time with one",
            ratio("evaluated each product", "evaluated once")?,
            2.0,
        )
        .noting(floor),
        Statement::at_least(
            "evaluating once is faster than after every layer",
            "time with an evaluation each layer over the time with one",
            ratio("evaluated each layer", "evaluated once")?,
            1.1,
        ),
        Statement::at_least(
            "evaluated once, the products reach the bandwidth ceiling",
            "bandwidth over the ceiling",
            share,
            0.9,
        ),
        Statement::between(
            "the evaluations themselves explain the difference",
            "time more an evaluation over the time of an evaluation of one addition",
            explained,
            0.5,
            2.0,
        )
        .noting(format!("{PRODUCTS} products a layer")),
    ])
}
