//! Products of a layer on an NVIDIA GPU for many numbers of rows: our kernel, unpacking and a dense product, and MLX's.
//!
//!     cargo run --release --example product_bench [REPEATS [norms]]
//!
//! Layers of Mistral-7B's and Qwen3-0.6B's sizes without their attention, each fed by the one before; one CSV line a case: µs a
//! layer, medians over REPEATS (15) runs that alternate. Unpacked means nothing at 16 bits. [`cuda::Weights::wins`] goes by it.
//! `norms`: with both norms of a layer instead, before our kernels and within them, which [`cuda::Norm::wins`] goes by.

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("product_bench: there is no CUDA on this system; nothing was measured");
}

#[cfg(target_os = "linux")]
fn main() -> anyhow::Result<()> {
    linux::main()
}

#[cfg(target_os = "linux")]
mod linux {
    use anyhow::{Context, Result};
    use mlx_rs::fast::rms_norm;
    use mlx_rs::ops::indexing::TryIndexOp;
    use mlx_rs::ops::{matmul, quantize, quantized_matmul};
    use mlx_rs::transforms::eval;
    use mlx_rs::{Array, Dtype, random};
    use ridgepoint::fused::cuda::{self, Epilogue, Norm, Weights};
    use ridgepoint::machine::device;
    use ridgepoint::model::layers::swiglu;
    use ridgepoint::stats::summary::median;
    use std::time::Instant;

    const LAYERS: usize = 8;
    const GROUP: i32 = 64;
    const ROWS: [i32; 14] = [8, 16, 24, 32, 40, 48, 64, 80, 96, 128, 144, 256, 512, 2048];
    /// Hidden size, outputs of the queries and of queries, keys and values, and the size within the MLP.
    const MODELS: [(&str, [i32; 4]); 2] =
        [("mistral-7b", [4096, 4096, 6144, 14336]), ("qwen3-0.6b", [1024, 2048, 4096, 3072])];

    const NORMED_ROWS: [i32; 8] = [1, 2, 5, 8, 9, 16, 24, 32];
    const EPS: f32 = 1e-5;

    #[derive(Clone, Copy)]
    enum Side {
        /// With a norm before each product that reads the hidden states, or within it.
        Apart,
        Within,
        Ours,
        Unpacked,
        Mlx,
    }

    struct Matrix {
        weight: Array,
        quantized: Option<(Array, Array, i32)>,
    }

    impl Matrix {
        fn new(outputs: i32, inputs: i32, bits: i32) -> Result<Matrix> {
            let dense = normal(&[outputs, inputs], 1.0 / (inputs as f32).sqrt())?;
            let matrix = if bits == 16 {
                Matrix { weight: dense, quantized: None }
            } else {
                let (weight, scales, biases) = quantize(&dense, GROUP, bits)?;
                Matrix { weight, quantized: Some((scales, biases, bits)) }
            };
            eval([&matrix.weight].into_iter().chain(matrix.quantized.iter().flat_map(|(s, b, _)| [s, b])))?;
            Ok(matrix)
        }

        fn weights(&self) -> Weights<'_> {
            let quantized = self.quantized.as_ref().map(|(scales, biases, bits)| (scales, biases, GROUP, *bits));
            Weights { weight: &self.weight, quantized }
        }

        fn product(&self, x: &Array, side: Side) -> Result<Array> {
            match (side, &self.quantized) {
                (Side::Unpacked, _) => {
                    Ok(matmul(x, cuda::unpacked(self.weights())?.context("weights are not unpacked")?.t())?)
                }
                (_, Some((scales, biases, bits))) => {
                    Ok(quantized_matmul(x, &self.weight, scales, biases, true, GROUP, *bits)?)
                }
                (_, None) => Ok(matmul(x, self.weight.t())?),
            }
        }
    }

    /// Of queries, keys and values; of attention's output; of gate and up; of the MLP's output.
    struct Layer {
        matrices: [Matrix; 4],
        norm: Array,
    }

    impl Layer {
        fn new([hidden, queries, qkv, within]: [i32; 4], bits: i32) -> Result<Layer> {
            let matrix = |outputs, inputs| Matrix::new(outputs, inputs, bits);
            let matrices =
                [matrix(qkv, hidden)?, matrix(hidden, queries)?, matrix(2 * within, hidden)?, matrix(hidden, within)?];
            Ok(Layer { matrices, norm: normal(&[hidden], 1.0)? })
        }

        fn forward(&self, h: &Array, queries: i32, side: Side) -> Result<Array> {
            let [qkv, o, gate_up, down] = &self.matrices;
            let heads = |qkv: Array| qkv.try_index((.., .., ..queries));
            if let Side::Ours | Side::Apart | Side::Within = side {
                let ours = |x: &Array, norm, matrix: &Matrix, epilogue| {
                    cuda::product(x, norm, matrix.weights(), epilogue)?.context("a product is not served")
                };
                let normed = |h: &Array, matrix, epilogue| match side {
                    Side::Apart => ours(&rms_norm(h, Some(&self.norm), EPS)?, None, matrix, epilogue),
                    Side::Within => ours(h, Some(Norm { weight: &self.norm, eps: EPS }), matrix, epilogue),
                    _ => ours(h, None, matrix, epilogue),
                };
                let h = &ours(&heads(normed(h, qkv, Epilogue::Plain)?)?, None, o, Epilogue::Residual(h))?;
                return ours(&normed(h, gate_up, Epilogue::Swiglu)?, None, down, Epilogue::Residual(h));
            }
            let h = &h.add(o.product(&heads(qkv.product(h, side)?)?, side)?)?;
            Ok(h.add(down.product(&swiglu(&gate_up.product(h, side)?)?, side)?)?)
        }
    }

    pub fn main() -> Result<()> {
        let repeats: usize = std::env::args().nth(1).map_or(Ok(15), |n| n.parse()).context("REPEATS is no number")?;
        device::set_cuda_defaults();
        device::select(None)?;
        if !cuda::serves(&Array::from_f32(0.0).as_dtype(Dtype::Bfloat16)?) {
            eprintln!("product_bench: MLX does not compute on an NVIDIA GPU here; nothing was measured");
            return Ok(());
        }
        let norms = std::env::args().nth(2).is_some_and(|what| what == "norms");
        let (sides, rows): (&[Side], &[i32]) = if norms {
            println!("model,bits,rows,norm_apart_us,norm_within_us");
            (&[Side::Apart, Side::Within], &NORMED_ROWS)
        } else {
            println!("model,bits,rows,ours_us,unpacked_us,mlx_us");
            (&[Side::Ours, Side::Unpacked, Side::Mlx], &ROWS)
        };
        for (model, sizes) in MODELS {
            for bits in [4, 8, 16] {
                let layers = (0..LAYERS).map(|_| Layer::new(sizes, bits)).collect::<Result<Vec<_>>>()?;
                for &rows in rows {
                    let x = normal(&[1, rows, sizes[0]], 1.0)?;
                    let mut micros = vec![vec![]; sides.len()];
                    // The first run compiles.
                    for repeat in 0..=repeats {
                        for (&side, micros) in sides.iter().zip(&mut micros) {
                            if bits == 16 && matches!(side, Side::Unpacked) {
                                continue;
                            }
                            let started = Instant::now();
                            let mut h = x.clone();
                            for layer in &layers {
                                h = layer.forward(&h, sizes[1], side)?;
                            }
                            h.eval()?;
                            if repeat > 0 {
                                micros.push(1e6 * started.elapsed().as_secs_f64() / LAYERS as f64);
                            }
                        }
                    }
                    let medians: Vec<String> = micros
                        .iter()
                        .map(|micros| median(micros).map_or_else(|_| String::new(), |us| format!("{us:.1}")))
                        .collect();
                    println!("{model},{bits},{rows},{}", medians.join(","));
                }
            }
        }
        Ok(())
    }

    fn normal(shape: &[i32], scale: f32) -> Result<Array> {
        let x = random::normal::<f32>(shape, None, None, None)?.multiply(Array::from_f32(scale))?;
        let x = x.as_dtype(Dtype::Bfloat16)?;
        x.eval()?;
        Ok(x)
    }
}
