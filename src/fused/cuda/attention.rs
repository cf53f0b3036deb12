//! Attention of a few new tokens over the cache: head norms, rotary embedding, the cache's update, scores, softmax, values.

use super::kernel::{Kernel, Launch};
use super::serves;
use anyhow::Result;
use mlx_rs::ops::broadcast_to;
use mlx_rs::{Array, Dtype};
use std::sync::OnceLock;

/// Places of the cache that a block takes at a time, and rows of queries.
const PLACES: i32 = 64;
const ROWS: i32 = 32;
/// Tokens of a sequence that the kernel takes.
const MAX_WIDTH: i32 = 128;
/// Parts that the places of a head may be cut into.
const MAX_PARTS: i32 = 64;

/// The sizes of a layer's attention. Without head norms `eps` means nothing.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    pub queries: i32,
    pub keys: i32,
    pub head_dim: i32,
    pub eps: f32,
}

impl Heads {
    /// Whether attention of `qkv` (`[batch, b, ..]`) over `held` tokens is served, for a mask or not.
    pub fn serve(&self, qkv: &Array, held: i32, masked: bool) -> bool {
        let known = matches!(self.head_dim, 64 | 128) && self.queries / self.keys <= ROWS && !masked;
        known && self.wins(qkv.dim(0), qkv.dim(1), held) && serves(qkv)
    }

    /// Whether this kernel is the faster one, by `examples/attention_bench.rs` on an H200. Each tile of a sequence's tokens reads
    /// the context again, which MLX's operations do once, with more kernels: many tiles over much context are theirs.
    fn wins(&self, batch: i32, width: i32, held: i32) -> bool {
        let tiles = self.tiles(width);
        let cached = held <= 2048 && batch * width <= 128;
        width <= MAX_WIDTH && batch * width <= 256 && (tiles <= 2 || batch * tiles <= 8 || cached)
    }

    /// Pieces that the tokens of a sequence are cut into: a block has rows for so many.
    fn tiles(&self, width: i32) -> i32 {
        pieces_of(width, ROWS / (self.queries / self.keys))
    }

    /// As many zeros as [`attention`] wants to count with.
    pub fn turns(&self, batch: i32) -> Result<Array> {
        Ok(mlx_rs::ops::zeros_dtype(&[batch * self.keys * MAX_WIDTH], Dtype::Uint32)?)
    }
}

/// Where the new tokens of a forward stand.
#[derive(Debug)]
pub struct Position {
    held: i32,
    /// `[held + 1, head_dim / 2]`, all rows the frequencies: its shape is how the kernel is told `held`, without a copy.
    frequencies: Array,
}

impl Position {
    /// `frequencies` are radians a position, `[1, head_dim / 2]` float32; the cache holds `held` tokens.
    pub fn new(frequencies: &Array, held: i32) -> Result<Position> {
        Ok(Position { held, frequencies: broadcast_to(frequencies, &[held + 1, frequencies.dim(1)])? })
    }
}

/// The buffers that a layer's keys and values lie in, `[batch, keys, capacity, head_dim]`, zeros from [`Heads::turns`], and the
/// operation that wrote to the buffers last, which the next one must follow.
#[derive(Debug, Clone, Copy)]
pub struct Buffers<'a> {
    pub keys: &'a Array,
    pub values: &'a Array,
    pub turns: &'a Array,
    pub written: Option<&'a Array>,
}

/// Causal attention of `qkv` (`[batch, b, (queries + 2 keys) · head_dim]`, row by row) over the cache. `norms` are the weights
/// of the query and key norms. Gives `[batch, b, queries · head_dim]`. Lazy; when it is computed, the new keys and values are
/// written to the buffers behind the tokens held, in place: MLX would copy a buffer that an earlier operation still holds.
pub fn attention(
    qkv: &Array,
    buffers: Buffers,
    heads: Heads,
    position: &Position,
    norms: Option<[&Array; 2]>,
) -> Result<Array> {
    let (batch, width, capacity) = (qkv.dim(0), qkv.dim(1), buffers.keys.dim(2));
    // Parts follow from the capacity, not from the tokens held: a row's parts are the same whatever comes with it.
    let pieces = (pieces_of(capacity, PLACES * MAX_PARTS) as u32).next_power_of_two().max(2) as i32;
    let parts = pieces_of(position.held + width, PLACES * pieces);
    let tiles = heads.tiles(width);
    let launch = Launch {
        blocks: [parts, heads.keys, batch * tiles],
        threads: 128,
        dtype: qkv.dtype(),
        numbers: &[
            (c"D", heads.head_dim),
            (c"QUERIES", heads.queries),
            (c"KEYS", heads.keys),
            (c"PIECES", pieces),
            (c"NORMED", norms.is_some().into()),
            (c"EPS", heads.eps.to_bits() as i32),
        ],
    };
    let [query_norm, key_norm] = norms.unwrap_or([qkv, qkv]);
    let inputs = [
        qkv,
        buffers.keys,
        buffers.values,
        &position.frequencies,
        query_norm,
        key_norm,
        buffers.turns,
        buffers.written.unwrap_or(qkv),
    ];
    let shape = [batch, width, heads.queries * heads.head_dim];
    let partial = [batch * tiles * heads.keys * parts, ROWS * (heads.head_dim + 2)];
    let [y, _] = kernel().add(&inputs, [(&shape, qkv.dtype()), (&partial, Dtype::Float32)], &launch)?;
    Ok(y)
}

/// How many pieces of `size` hold `count`.
fn pieces_of(count: i32, size: i32) -> i32 {
    (count + size - 1) / size
}

fn kernel() -> &'static Kernel {
    static KERNEL: OnceLock<Kernel> = OnceLock::new();
    KERNEL.get_or_init(|| {
        let inputs =
            [c"qkv", c"keys", c"values", c"frequencies", c"query_norm", c"key_norm", c"turns", c"written"];
        let source = "ridgepoint::attention<T, D, QUERIES, KEYS, PIECES, NORMED != 0>(
            qkv, qkv_shape[1], const_cast<T*>(keys), const_cast<T*>(values), keys_shape[2], frequencies, query_norm, key_norm,
            __int_as_float(EPS), frequencies_shape[0] - 1, const_cast<unsigned*>(turns), partial, y);";
        let headers = [include_str!("common.cuh"), include_str!("attention.cuh")];
        Kernel::new("attention", &inputs, &[c"y", c"partial"], &headers, source, false)
    })
}

#[cfg(test)]
mod tests {
    use super::Heads;

    /// The cases on both sides of even that `examples/attention_bench.rs` found with these heads on H200s; near it hosts differ.
    #[test]
    fn the_faster_kernel_is_taken() {
        let heads = Heads { queries: 32, keys: 8, head_dim: 128, eps: 0.0 };
        for (held, batch, width) in
            [(256, 1, 128), (256, 4, 32), (2048, 4, 32), (16384, 1, 48), (16384, 4, 16), (16384, 16, 16)]
        {
            assert!(heads.wins(batch, width, held), "{batch} x {width} behind {held}");
        }
        for (held, batch, width) in [(4096, 4, 17), (4096, 4, 32), (16384, 4, 24), (4096, 1, 96), (16384, 32, 16)] {
            assert!(!heads.wins(batch, width, held), "{batch} x {width} behind {held}");
        }
    }
}
