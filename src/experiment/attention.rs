//! Attention in one fused operation against the same out of products and a softmax, and a quantised product against
//! unpacking the weights first.

use super::{Evidence, Experiment, Statement};
use anyhow::Result;

pub const EXPERIMENT: Experiment = Experiment {
    id: 5,
    name: "attention",
    question: "What do fused attention and quantised products save over composing them?",
    #[cfg(feature = "mlx")]
    measure: measuring::measure,
    statements,
};

#[cfg(feature = "mlx")]
mod measuring {
    use super::super::lab::{Case, Lab};
    use super::super::operations::{evaluation_seconds, precision};
    use crate::model::matrix::Matrix;
    use crate::model::synthetic::{self, Synthetic};
    use crate::model::weights::{LoadOptions, Tensors};
    use crate::results::SampleRow;
    use crate::scenario::Quantization;
    use anyhow::Result;
    use mlx_rs::fast::scaled_dot_product_attention;
    use mlx_rs::ops::indexing::TryIndexOp;
    use mlx_rs::ops::{dequantize, matmul, ones_dtype, quantized_matmul, softmax_axis};
    use mlx_rs::transforms::eval;
    use mlx_rs::{Array, Dtype, random};
    use std::rc::Rc;

    /// Layers in a queue: each attends to keys and values of its own.
    const LAYERS: usize = 16;
    /// Pairs of products in a queue.
    const PAIRS: usize = 4;

    pub fn measure(lab: &mut Lab) -> Result<()> {
        let at = lab.scale.main.clone();
        let model = lab.model(&at)?;
        let config = model.transformer.config.clone();
        let dtype = model.transformer.dtype();
        let mut cases = Vec::new();
        for &context in &lab.scale.contexts {
            for fused in [true, false] {
                let sizes = [config.num_heads, config.num_kv_heads, config.head_dim];
                cases.push(attention(lab, sizes, context, dtype, fused)?);
            }
        }
        let quantize = at.quantize.map_or_else(|| Quantization::new(4, 64).map_err(anyhow::Error::msg), Ok)?;
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let queries = config.num_heads * config.head_dim;
        for (outputs, name) in [(queries, "query"), (inner, "MLP")] {
            let matrices = Rc::new(pairs(outputs, hidden, dtype, quantize)?);
            for packed in [true, false] {
                cases.push(products(lab, name, &matrices, [outputs, hidden], dtype, quantize, packed)?);
            }
        }
        lab.time(cases)
    }

    /// One query token over `context` tokens, each layer's queries being the result of the layer before.
    fn attention(
        lab: &Lab,
        [heads, kv, dim]: [i32; 3],
        context: u64,
        dtype: Dtype,
        fused: bool,
    ) -> Result<Case<'static>> {
        let values = |shape: &[i32]| -> Result<Array> {
            let array = random::normal::<f32>(shape, None, None, None)?.as_dtype(dtype)?;
            eval([&array])?;
            Ok(array)
        };
        let layer = |_| Ok([values(&[1, kv, context as i32, dim])?, values(&[1, kv, context as i32, dim])?]);
        let layers: Vec<[Array; 2]> = (0..LAYERS).map(layer).collect::<Result<_>>()?;
        let queries = values(&[1, heads, 1, dim])?;
        let layer_bytes = (layers[0][0].nbytes() + layers[0][1].nbytes()) as u64;
        let row = SampleRow {
            precision: precision(dtype, None),
            context: Some(context),
            batch: Some(1),
            width: Some(1),
            chain: LAYERS as u64,
            bytes: layer_bytes,
            flops: 4.0 * (heads * dim) as f64 * context as f64,
            ..lab.row(if fused { "attention, fused" } else { "attention, composed" })
        };
        let scale = (dim as f32).powf(-0.5);
        let run = move || {
            evaluation_seconds(|| {
                let mut x = queries.clone();
                for [keys, values] in &layers {
                    x = if fused {
                        scaled_dot_product_attention(&x, keys, values, scale, None, None)?
                    } else {
                        composed(&x, keys, values, scale)?
                    };
                }
                Ok(vec![x])
            })
        };
        Ok(Case { touched: Some(layer_bytes * LAYERS as u64), row, run: Box::new(run) })
    }

    /// softmax(q kᵀ · scale) v, the query heads that share a key head in one product.
    fn composed(queries: &Array, keys: &Array, values: &Array, scale: f32) -> Result<Array> {
        let (heads, dim, kv) = (queries.dim(1), queries.dim(3), keys.dim(1));
        let grouped = queries.reshape(&[1, kv, heads / kv, dim])?;
        let scale = Array::from_f32(scale).as_dtype(queries.dtype())?;
        let scores = matmul(grouped.multiply(scale)?, keys.transpose_axes(&[0, 1, 3, 2])?)?;
        let weights = softmax_axis(&scores, -1, true)?;
        Ok(matmul(weights, values)?.reshape(&[1, heads, 1, dim])?)
    }

    /// Matrices up and down again, `PAIRS` of each.
    fn pairs(outputs: i32, inputs: i32, dtype: Dtype, quantize: Quantization) -> Result<Vec<[Matrix; 2]>> {
        let options = LoadOptions { dtype: Some(dtype), quantize: Some(quantize) };
        let bytes = synthetic::bytes(&options, 2 * PAIRS as u64 * outputs as u64 * inputs as u64);
        let mut weights = Synthetic::new(&options, 5, bytes)?;
        let mut pair = || Ok([weights.take_matrix("", outputs, inputs)?, weights.take_matrix("", inputs, outputs)?]);
        (0..PAIRS).map(|_| pair()).collect()
    }

    fn products(
        lab: &Lab,
        name: &str,
        matrices: &Rc<Vec<[Matrix; 2]>>,
        [outputs, inputs]: [i32; 2],
        dtype: Dtype,
        quantize: Quantization,
        packed: bool,
    ) -> Result<Case<'static>> {
        let x = ones_dtype(&[1, 1, inputs], dtype)?;
        let bytes = (matrices[0][0].nbytes() + matrices[0][1].nbytes()) as u64;
        let how = if packed { "quantised product" } else { "unpacked, then product" };
        let row = SampleRow {
            precision: precision(dtype, Some(quantize)),
            outputs: Some(outputs as u64),
            inputs: Some(inputs as u64),
            width: Some(1),
            chain: PAIRS as u64,
            bytes,
            flops: 4.0 * f64::from(outputs) * f64::from(inputs),
            ..lab.row(&format!("{name}, {how}"))
        };
        let matrices = Rc::clone(matrices);
        let run = move || {
            evaluation_seconds(|| {
                let mut x = x.clone();
                for matrix in matrices.iter().flatten() {
                    x = if packed { quantised(&x, matrix)? } else { unpacked(&x, matrix)? };
                }
                Ok(vec![x.try_index((.., .., ..1))?])
            })
        };
        Ok(Case { touched: Some(bytes * PAIRS as u64), row, run: Box::new(run) })
    }

    fn quantised(x: &Array, matrix: &Matrix) -> Result<Array> {
        match matrix {
            Matrix::Quantized { weight, scales, biases, group_size, bits } => {
                Ok(quantized_matmul(x, weight, scales, biases, true, *group_size, *bits)?)
            }
            Matrix::Dense(_) => anyhow::bail!("its rows are not whole groups"),
        }
    }

    fn unpacked(x: &Array, matrix: &Matrix) -> Result<Array> {
        match matrix {
            Matrix::Quantized { weight, scales, biases, group_size, bits } => {
                Ok(matmul(x, dequantize(weight, scales, biases, *group_size, *bits)?.t())?)
            }
            Matrix::Dense(_) => anyhow::bail!("its rows are not whole groups"),
        }
    }
}

fn statements(evidence: &Evidence) -> Result<Vec<Statement>> {
    let gain = |pass: &super::evidence::Pass, longest: bool| -> Option<f64> {
        let (fused, composed) = (pass.all("attention, fused"), pass.all("attention, composed"));
        let pick = |rows: Vec<&crate::results::SampleRow>| {
            if longest { rows.last()?.time_ms } else { rows.first()?.time_ms }
        };
        Some(pick(composed)? / pick(fused)?)
    };
    let ends = [evidence.scale.contexts.first(), evidence.scale.contexts.last()].map(|end| end.copied().unwrap_or(0));
    let mut statements = vec![
        Statement::at_least(
            &format!("fused attention is faster at {} tokens of context", ends[1]),
            "time composed over time fused",
            evidence.quantity(|pass| gain(pass, true))?,
            1.1,
        ),
        Statement::at_least(
            &format!("fused attention is faster at {} tokens of context", ends[0]),
            "time composed over time fused",
            evidence.quantity(|pass| gain(pass, false))?,
            1.1,
        ),
    ];
    for name in ["query", "MLP"] {
        let (packed, unpacked) = (format!("{name}, quantised product"), format!("{name}, unpacked, then product"));
        let quantity = evidence.quantity(|pass| Some(pass.ms(&unpacked)? / pass.ms(&packed)?))?;
        statements.push(
            Statement::at_least(
                &format!("a quantised product is at least twice as fast as unpacking first ({name} sizes)"),
                "time unpacked over time quantised",
                quantity,
                2.0,
            )
            .noting(evidence.why_missing(&packed)),
        );
    }
    Ok(statements)
}
