//! Our CUDA kernels against MLX's own operations, on a machine with an NVIDIA GPU; elsewhere it says so and does nothing.
//!
//!     cargo run --release --example cuda_check [models|products [N]]
//!
//! N is one kind of product, from 1 to 7: most of the time goes into compiling kernels, which several processes can share.
//! Products are compared with float32 products of the dequantised weights, whole models with the same model without our
//! kernels; and a row's bits must not depend on up to 32 rows beside it. The exit code is 1 where something is wrong.

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("cuda_check: there is no CUDA on this system; nothing was checked");
}

#[cfg(target_os = "linux")]
fn main() -> anyhow::Result<()> {
    linux::main()
}

#[cfg(target_os = "linux")]
mod linux {
    use anyhow::{Context, Result, ensure};
    use mlx_rs::fast::rms_norm;
    use mlx_rs::ops::indexing::TryIndexOp;
    use mlx_rs::ops::{concatenate, dequantize, matmul, quantize, sigmoid};
    use mlx_rs::{Array, Dtype, random};
    use ridgepoint::fused::cuda::{self, Epilogue, Norm, Weights};
    use ridgepoint::machine::device;
    use ridgepoint::model::timed::TimedModel;
    use ridgepoint::model::transformer::{Logits, Transformer};
    use ridgepoint::scenario::Quantization;

    /// Rows that all products serve, a row's bits being the same however many there are.
    const ROWS: i32 = 32;

    pub fn main() -> Result<()> {
        let mut args = std::env::args().skip(1);
        let wanted = args.next();
        let kind: Option<usize> = args.next().map(|kind| kind.parse()).transpose().context("N is no number")?;
        let wants = |part: &str| wanted.as_deref().is_none_or(|wanted| wanted == part);
        let known = wants("products") || (wants("models") && kind.is_none());
        ensure!(known && kind.is_none_or(|kind| (1..=7).contains(&kind)), "usage: cuda_check [models|products [N]]");
        device::set_cuda_defaults();
        device::select(None)?;
        if !cuda::serves(&Array::from_f32(0.0).as_dtype(Dtype::Bfloat16)?) {
            eprintln!("cuda_check: MLX does not compute on an NVIDIA GPU here; nothing was checked");
            return Ok(());
        }
        // Every kind of kernel once or twice: each takes a second or two to compile, several minutes in all.
        let models = [("smollm2-135m", 0), ("qwen3-0.6b", 4), ("mistral-7b", 8)];
        for (name, bits) in models.into_iter().filter(|_| wants("models")) {
            let quantize = (bits > 0).then_some(Quantization { bits, group_size: 64 });
            let model = TimedModel::load(name, Some(ridgepoint::scenario::Dtype::Bfloat16), quantize)?;
            whole(name, bits, &model.transformer, &model.tokens(600))
                .with_context(|| format!("{name} at {bits} bits"))?;
        }
        let cases = [
            (Dtype::Bfloat16, 4096, 6144, None),
            (Dtype::Bfloat16, 4096, 6144, Some((4, 64))),
            (Dtype::Bfloat16, 4096, 6144, Some((8, 64))),
            (Dtype::Bfloat16, 576, 1536, Some((4, 32))),
            (Dtype::Float16, 2048, 32800, None),
            (Dtype::Float16, 2048, 32800, Some((4, 128))),
            (Dtype::Float16, 2048, 32800, Some((8, 128))),
        ];
        for (place, (dtype, inputs, outputs, quantized)) in cases.into_iter().enumerate() {
            if wants("products") && kind.is_none_or(|kind| kind == place + 1) {
                products(dtype, inputs, outputs, quantized)?;
            }
        }
        println!("all is well");
        Ok(())
    }

    fn normal(shape: &[i32], seed: u64, dtype: Dtype) -> Result<Array> {
        Ok(random::normal::<f32>(shape, None, None, Some(&random::key(seed)?))?.as_dtype(dtype)?)
    }

    /// ‖a - b‖ / ‖b‖.
    fn distance(a: &Array, b: &Array) -> Result<f32> {
        let float = |x: &Array| x.as_dtype(Dtype::Float32);
        let norm = |x: Array| -> Result<f32> { Ok(x.square()?.sum(None)?.sqrt()?.try_item_exact::<f32>()?) };
        Ok(norm(float(a)?.subtract(float(b)?)?)? / norm(float(b)?)?)
    }

    fn same(a: &Array, b: &Array) -> Result<bool> {
        Ok(a.eq(b)?.all(None)?.try_item_exact::<bool>()?)
    }

    fn products(dtype: Dtype, inputs: i32, outputs: i32, quantized: Option<(i32, i32)>) -> Result<()> {
        let dense = normal(&[outputs, inputs], 1, dtype)?.multiply(Array::from_f32(0.02).as_dtype(dtype)?)?;
        let (weight, scales, biases, exact);
        let weights = match quantized {
            None => {
                (weight, exact) = (dense.clone(), dense.as_dtype(Dtype::Float32)?);
                Weights { weight: &weight, quantized: None }
            }
            Some((bits, group)) => {
                (weight, scales, biases) = quantize(&dense, group, bits)?;
                let float = |x: &Array| x.as_dtype(Dtype::Float32);
                exact = dequantize(&weight, float(&scales)?, &float(&biases)?, group, bits)?;
                let weights = Weights { weight: &weight, quantized: Some((&scales, &biases, group, bits)) };
                let unpacked = cuda::unpacked(weights)?.context("not unpacked")?;
                // Once in many values the other order of rounding tells.
                ensure!(distance(&unpacked, &exact.as_dtype(dtype)?)? < 1e-4, "weights are unpacked wrongly");
                weights
            }
        };
        let x = normal(&[1, ROWS, inputs], 2, dtype)?;
        let (residual, bias) = (normal(&[1, ROWS, outputs], 3, dtype)?, normal(&[outputs], 4, dtype)?);
        let norm_weight = normal(&[inputs], 5, dtype)?;
        let norm = Norm { weight: &norm_weight, eps: 1e-5 };
        let half = outputs / 2;
        let tolerance = if dtype == Dtype::Bfloat16 { 4e-3 } else { 1e-3 };
        let mut worst: f32 = 0.0;
        // A norm within the product is served in bfloat16 alone.
        for norm in [None, Some(norm)].into_iter().take(if dtype == Dtype::Bfloat16 { 2 } else { 1 }) {
            let float = x.as_dtype(Dtype::Float32)?;
            let float = match norm {
                Some(Norm { weight, eps }) => rms_norm(float, Some(&weight.as_dtype(Dtype::Float32)?), eps)?,
                None => float,
            };
            let product = matmul(float, exact.t())?;
            let (gate, up) = (product.try_index((.., .., ..half))?, product.try_index((.., .., half..))?);
            let cases = [
                (Epilogue::Plain, product.clone()),
                (Epilogue::Bias(&bias), product.add(&bias)?),
                (Epilogue::Residual(&residual), product.add(&residual)?),
                (Epilogue::Swiglu, gate.multiply(sigmoid(&gate)?)?.multiply(up)?),
            ];
            for (epilogue, expected) in cases {
                let all = cuda::product(&x, norm, weights, epilogue)?.context("not served")?;
                let error = distance(&all, &expected)?;
                // The negation, so that no NaN passes.
                ensure!(error < tolerance, "{norm:?} {epilogue:?} is off by {error}");
                worst = worst.max(error);
                for rows in [1, 2, 5, 8, 9, 16, 17, 31] {
                    let part = |array: &Array| array.try_index((.., ..rows, ..));
                    let extra;
                    let epilogue = match epilogue {
                        Epilogue::Residual(residual) => {
                            extra = part(residual)?;
                            Epilogue::Residual(&extra)
                        }
                        other => other,
                    };
                    let some = cuda::product(&part(&x)?, norm, weights, epilogue)?.context("not served")?;
                    ensure!(same(&some, &part(&all)?)?, "{epilogue:?}: {rows} rows give other bits than {ROWS}");
                }
            }
        }
        println!(
            "product {dtype:?} {inputs} -> {outputs} {quantized:?}: relative error at most {worst:.1e}, rows alike"
        );
        Ok(())
    }

    /// Logits against MLX's own operations, and of tokens together against the same one by one.
    fn whole(name: &str, bits: i32, model: &Transformer, text: &[u32]) -> Result<()> {
        let tokens = |from: usize, to: usize| Array::from_slice(&text[from..to], &[1, (to - from) as i32]);
        for (held, width) in [(0, 5), (125, 5), (500, 8), (300, 16), (200, 32), (256, 100), (256, 128)] {
            let started = || -> Result<_> {
                let mut cache = model.new_cache();
                cache.reserve(1000);
                if held > 0 {
                    model.prefill(&tokens(0, held), None, &mut cache)?;
                }
                Ok(cache)
            };
            let (mut cache, mut apart) = (started()?, started()?);
            let together = model.forward(&tokens(held, held + width), &mut cache, Logits::All)?;
            let mut rows = Vec::new();
            for at in held..held + width {
                // As plain decoding has it: nothing is handed over on the way.
                rows.push(model.forward_pipelined(&tokens(at, at + 1), &mut apart)?);
            }
            let apart = concatenate(&rows.iter().collect::<Vec<_>>(), 1)?;
            let mlx = cuda::without(|| -> Result<Array> {
                model.forward(&tokens(held, held + width), &mut started()?, Logits::All)
            })?;
            let exact = same(&together, &apart)?;
            println!(
                "{name} {bits} bits, {width} tokens behind {held}: {:.1e} from MLX's logits, one by one {}",
                distance(&together, &mlx)?,
                if exact { "the same bits" } else { "other bits" },
            );
            // Products of more rows are other kernels', attention is not.
            ensure!(exact || width > ROWS as usize, "{width} tokens behind {held} give other bits than one by one");
            ensure!(distance(&together, &apart)? < 0.05, "{width} tokens behind {held} are far from one by one");
            ensure!(distance(&together, &mlx)? < 0.05, "the logits are not MLX's");
            // What was rolled back is overwritten, by our kernels and by MLX's.
            cache.truncate(held as i32);
            let again = model.forward(&tokens(held, held + width), &mut cache, Logits::All)?;
            ensure!(same(&again, &together)?, "after rolling back the logits are others");
            cache.truncate(held as i32);
            let mlx_again = cuda::without(|| model.forward(&tokens(held, held + width), &mut cache, Logits::All))?;
            // What is held may have been read with our products, so that this too is only close.
            ensure!(distance(&mlx_again, &mlx)? < 0.05, "MLX's attention reads another cache than ours wrote");
        }
        Ok(())
    }
}
