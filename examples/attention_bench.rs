//! Attention of a few new tokens on an NVIDIA GPU: our kernel beside MLX's operations, one CSV line a case.
//!
//!     cargo run --release --example attention_bench [REPEATS [QUERIES]]
//!
//! Eight layers of Mistral-7B's heads in bfloat16, each fed by the one before, for several contexts, batches and widths; µs a
//! layer, medians over REPEATS (15) runs that alternate. QUERIES (32), a multiple of 8, is the number of query heads
//! for the eight key heads. [`cuda::Heads::serve`] goes by it.

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("attention_bench: there is no CUDA on this system; nothing was measured");
}

#[cfg(target_os = "linux")]
fn main() -> anyhow::Result<()> {
    linux::main()
}

#[cfg(target_os = "linux")]
mod linux {
    use anyhow::{Context, Result, ensure};
    use mlx_rs::fast::{ScaledDotProductAttentionMask, rope, scaled_dot_product_attention};
    use mlx_rs::ops::concatenate;
    use mlx_rs::ops::indexing::TryIndexOp;
    use mlx_rs::transforms::eval;
    use mlx_rs::{Array, Dtype, random};
    use ridgepoint::fused::cuda::{self, Buffers, Heads, Position};
    use ridgepoint::machine::device;
    use ridgepoint::model::cache::KvCache;
    use ridgepoint::stats::summary::median;
    use std::time::Instant;

    const LAYERS: usize = 8;
    /// Mistral-7B's; QUERIES may say otherwise.
    const HEADS: Heads = Heads { queries: 32, keys: 8, head_dim: 128, eps: 0.0 };
    const THETA: f32 = 1e6;
    const CONTEXTS: [i32; 5] = [256, 1024, 2048, 4096, 16384];
    /// Sequences, and tokens of each.
    const SIZES: [(i32, &[i32]); 3] =
        [(1, &[1, 8, 16, 32, 48, 64, 96, 128]), (4, &[1, 4, 8, 9, 16, 17, 24, 32]), (16, &[1, 2, 4, 8, 9, 16])];

    pub fn main() -> Result<()> {
        let repeats: usize = std::env::args().nth(1).map_or(Ok(15), |n| n.parse()).context("REPEATS is no number")?;
        let queries =
            std::env::args().nth(2).map_or(Ok(HEADS.queries), |n| n.parse()).context("QUERIES is no number")?;
        ensure!(
            queries % HEADS.keys == 0 && (1..=32).contains(&(queries / HEADS.keys)),
            "QUERIES is no 8, 16, ... 256"
        );
        let heads = Heads { queries, ..HEADS };
        device::set_cuda_defaults();
        device::select(None)?;
        if !cuda::serves(&Array::from_f32(0.0).as_dtype(Dtype::Bfloat16)?) {
            eprintln!("attention_bench: MLX does not compute on an NVIDIA GPU here; nothing was measured");
            return Ok(());
        }
        println!("queries,context,batch,width,ours_us,mlx_us,ratio");
        for context in CONTEXTS {
            for (batch, widths) in SIZES {
                let [mut ours, mut theirs] = [held(context, batch)?, held(context, batch)?];
                for &width in widths {
                    let qkv = normal(&[batch, width, (queries + 2 * HEADS.keys) * HEADS.head_dim])?;
                    let mut micros = [vec![], vec![]];
                    // The first run compiles.
                    for repeat in 0..=repeats {
                        for (side, cache) in [&mut ours, &mut theirs].into_iter().enumerate() {
                            let started = Instant::now();
                            layers(&qkv, cache, heads, side == 0)?.eval()?;
                            if repeat > 0 {
                                micros[side].push(1e6 * started.elapsed().as_secs_f64() / LAYERS as f64);
                            }
                        }
                    }
                    let [ours, mlx] = micros.map(|micros| median(&micros));
                    let (ours, mlx) = (ours?, mlx?);
                    println!("{queries},{context},{batch},{width},{ours:.1},{mlx:.1},{:.2}", ours / mlx);
                }
            }
        }
        Ok(())
    }

    fn normal(shape: &[i32]) -> Result<Array> {
        Ok(random::normal::<f32>(shape, None, None, None)?.as_dtype(Dtype::Bfloat16)?)
    }

    /// A cache that holds `context` tokens of `batch` sequences, with room for more.
    fn held(context: i32, batch: i32) -> Result<KvCache> {
        let mut cache = KvCache::new(LAYERS);
        cache.reserve(context + 128);
        for layer in 0..LAYERS {
            let heads = || normal(&[batch, HEADS.keys, context, HEADS.head_dim]);
            cache.update(layer, &heads()?, &heads()?)?;
            eval(cache.arrays())?;
        }
        cache.advance(context);
        Ok(cache)
    }

    /// Attention of all layers over the cache; each takes its queries from the one before.
    fn layers(qkv: &Array, cache: &mut KvCache, heads: Heads, kernel: bool) -> Result<Array> {
        let position = Position::new(&Array::from_slice(&[0.1f32; 64], &[1, HEADS.head_dim / 2]), cache.len())?;
        let rest = qkv.try_index((.., .., heads.queries * heads.head_dim..))?;
        let mut qkv = qkv.clone();
        let mut y = qkv.clone();
        for index in 0..LAYERS {
            y = if kernel {
                ours(&qkv, index, cache, heads, &position)?
            } else {
                composed(&qkv, index, cache, heads.queries)?
            };
            qkv = concatenate(&[&y, &rest], -1)?;
        }
        Ok(y)
    }

    fn ours(qkv: &Array, index: usize, cache: &mut KvCache, heads: Heads, position: &Position) -> Result<Array> {
        let layer = cache.layer(index, qkv.dim(1), &[qkv.dim(0), HEADS.keys, HEADS.head_dim], qkv.dtype())?;
        if layer.turns.is_none() {
            layer.turns = Some(heads.turns(qkv.dim(0))?);
        }
        let turns = layer.turns.as_ref().context("just made")?;
        let buffers = Buffers { keys: &layer.keys, values: &layer.values, turns, written: layer.written.as_ref() };
        let y = cuda::attention(qkv, buffers, heads, position, None)?;
        layer.written = Some(y.clone());
        Ok(y)
    }

    fn composed(qkv: &Array, index: usize, cache: &mut KvCache, queries: i32) -> Result<Array> {
        let (batch, width, size) = (qkv.dim(0), qkv.dim(1), HEADS.head_dim);
        let heads = |from: i32, count: i32| -> Result<Array> {
            let part = qkv.try_index((.., .., from * size..(from + count) * size))?;
            Ok(part.reshape(&[batch, width, count, size])?.transpose_axes(&[0, 2, 1, 3])?)
        };
        let position = cache.len();
        let rotated = |heads: Array| rope(&heads, size, false, Some(THETA), 1.0, position, None);
        let keys = rotated(heads(queries, HEADS.keys)?)?;
        let values = heads(queries + HEADS.keys, HEADS.keys)?;
        let queries = rotated(heads(0, queries)?)?;
        let (keys, values) = cache.update(index, &keys, &values)?;
        let mask = (width > 1).then_some(ScaledDotProductAttentionMask::Causal);
        let scale = (size as f32).powf(-0.5);
        let y = scaled_dot_product_attention(queries, keys, values, scale, mask, None)?;
        Ok(y.transpose_axes(&[0, 2, 1, 3])?.reshape(&[batch, width, -1])?)
    }
}
