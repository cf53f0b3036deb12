//! Products of a few rows with a weight matrix, and what follows them.

use super::kernel::{Kernel, Launch};
use super::serves;
use anyhow::Result;
use mlx_rs::{Array, Dtype};
use std::sync::OnceLock;

/// A weight matrix `[outputs, inputs]`, dense or in MLX's affine quantisation.
#[derive(Debug, Clone, Copy)]
pub struct Weights<'a> {
    /// `[outputs, inputs]`, or `[outputs, inputs * bits / 32]` uint32.
    pub weight: &'a Array,
    /// Scales and biases, `[outputs, inputs / group_size]`, the group size and the bits.
    pub quantized: Option<(&'a Array, &'a Array, i32, i32)>,
}

impl Weights<'_> {
    /// Whether [`product`] is the faster one for so many rows, by `examples/product_bench.rs` and whole forwards on H200s. Each
    /// 32 rows read the weights again; MLX's products of 16-bit weights read them once, also where they must be unpacked first,
    /// but are two launches more, which is what counts in a smaller matrix.
    pub fn wins(&self, rows: i32) -> bool {
        let bits = self.quantized.map_or(16, |(.., bits)| bits);
        // Qwen3-0.6B's matrices have 2 to 6 million weights, those of 4B 10 to 50, Mistral-7B's 17 to 117.
        let millions = self.weight.nbytes() as i64 * 8 / bits as i64 / 1_000_000;
        rows <= match (bits, millions) {
            (16, ..8) => 128,
            (16, _) => 32,
            (_, ..8) => 256,
            (4, _) => 96,
            _ => 64,
        }
    }
}

/// The RMS norm of what a product reads: its weights, `[inputs]`, and epsilon.
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a> {
    pub weight: &'a Array,
    pub eps: f32,
}

impl Norm<'_> {
    /// Whether it is a part of a product of so many rows. Each block computes it again: up to 8 rows that is the faster by
    /// `examples/product_bench.rs`; up to 32 it costs a little in large matrices and is done so that a row's bits do not depend on the
    /// rows beside it.
    pub fn wins(&self, rows: i32) -> bool {
        rows <= 32
    }
}

/// What is done with a product before it is stored.
#[derive(Debug, Clone, Copy)]
pub enum Epilogue<'a> {
    Plain,
    /// Adds `[outputs]`.
    Bias(&'a Array),
    /// Adds an array of the result's shape.
    Residual(&'a Array),
    /// silu(gate) · up: the weights of the gate come first, those of up after them.
    Swiglu,
}

/// How a block's work is cut: tiles of 16 outputs, warps that share out the inputs, pieces that a warp reads at a time. Timed
/// on an H100 and an H200 over Mistral-7B's shapes.
struct Cut {
    tiles: i32,
    warps: i32,
    unroll: i32,
}

/// x · weightᵀ and `epilogue`, or the norm of x in its place: `x` is `[batch, b, inputs]`. Gives `[batch, b, outputs]`, or nothing
/// where types or sizes are not served. Lazy.
pub fn product(x: &Array, norm: Option<Norm>, weights: Weights, epilogue: Epilogue) -> Result<Option<Array>> {
    if x.ndim() != 3 {
        return Ok(None);
    }
    let rows = x.dim(0) * x.dim(1);
    let inputs = x.dim(2);
    let (bits, group) = weights.quantized.map_or((16, 64), |(_, _, group, bits)| (bits, group));
    let swiglu = matches!(epilogue, Epilogue::Swiglu);
    let outputs = weights.weight.dim(0) / if swiglu { 2 } else { 1 };
    let piece = if bits == 16 { 32 } else { group };
    let mut typed = weights.quantized.map_or(weights.weight, |(scales, ..)| scales).dtype() == x.dtype();
    if let Epilogue::Bias(extra) | Epilogue::Residual(extra) = epilogue {
        typed &= extra.dtype() == x.dtype();
    }
    let fits = weights.weight.dim(1) * if bits == 16 { 1 } else { 32 / bits } == inputs;
    if let Some(Norm { weight, .. }) = norm {
        // Before they are scaled, the products of x and the norm's weights may be more than a float16 holds.
        typed &= weight.dtype() == x.dtype() && x.dtype() == Dtype::Bfloat16;
    }
    let known = matches!(bits, 4 | 8 | 16) && matches!(group, 32 | 64 | 128);
    if !(typed && known && fits && inputs % piece == 0 && outputs % 16 == 0 && serves(x)) {
        return Ok(None);
    }
    // Tiles of 8 rows: up to four share what was read of the weights.
    let row_tiles = if rows > 16 { 4 } else { (rows + 7) / 8 };
    let cut = cut(bits, outputs, inputs / piece, swiglu);
    let (scales, biases) = weights.quantized.map_or((x, x), |(scales, biases, ..)| (scales, biases));
    let (kind, extra) = match epilogue {
        Epilogue::Plain => (0, x),
        Epilogue::Bias(bias) => (1, bias),
        Epilogue::Residual(residual) => (2, residual),
        Epilogue::Swiglu => (3, x),
    };
    let launch = Launch {
        blocks: [
            (rows + 8 * row_tiles - 1) / (8 * row_tiles),
            outputs / 16 / if swiglu { cut.tiles / 2 } else { cut.tiles },
            1,
        ],
        threads: 32 * cut.warps,
        dtype: x.dtype(),
        numbers: &[
            (c"BITS", bits),
            (c"GROUP", group),
            (c"K", inputs),
            (c"N", outputs),
            (c"MT", cut.tiles),
            (c"NT", row_tiles),
            (c"WARPS", cut.warps),
            (c"U", cut.unroll),
            (c"EPILOGUE", kind),
            (c"NORMED", norm.is_some().into()),
            (c"EPS", norm.map_or(0, |norm| norm.eps.to_bits() as i32)),
        ],
    };
    let shape = [x.dim(0), x.dim(1), outputs];
    let norm_weight = norm.map_or(x, |norm| norm.weight);
    let inputs = [x, weights.weight, scales, biases, extra, norm_weight];
    let [y] = kernel(norm.is_some() && row_tiles == 1).add(&inputs, [(&shape, x.dtype())], &launch)?;
    Ok(Some(y))
}

/// `two`: two blocks are to fit a multiprocessor. The norm's squares take registers, and one block alone is slower.
fn kernel(two: bool) -> &'static Kernel {
    static KERNELS: [OnceLock<Kernel>; 2] = [const { OnceLock::new() }; 2];
    KERNELS[usize::from(two)].get_or_init(|| {
        let bounds = if two { "#define RIDGEPOINT_BLOCKS 2\n" } else { "" };
        let headers = [bounds, include_str!("common.cuh"), include_str!("product.cuh")];
        let source = "ridgepoint::product<T, BITS, GROUP, K, N, MT, NT, WARPS, U, EPILOGUE, NORMED != 0>(
            x, x_shape[0] * x_shape[1], w, scales, biases, extra, norm, __int_as_float(EPS), y);";
        let inputs = [c"x", c"w", c"scales", c"biases", c"extra", c"norm"];
        Kernel::new("product", &inputs, &[c"y"], &headers, source, true)
    })
}

/// `pieces` is how many a row of the weights has. The same for every number of rows: warps and unrolling are the order in which
/// a row's products are added up.
fn cut(bits: i32, outputs: i32, pieces: i32, swiglu: bool) -> Cut {
    // Enough blocks for every multiprocessor several times over.
    let many = swiglu || outputs >= 1 << 14;
    let Cut { tiles, warps, unroll } = match (bits, many) {
        (16, true) => Cut { tiles: 2, warps: 8, unroll: 4 },
        (_, true) => Cut { tiles: 2, warps: 4, unroll: 2 },
        (_, false) => Cut { tiles: 1, warps: 8, unroll: 4 },
    };
    let tiles = if swiglu || outputs % (16 * tiles) == 0 { tiles } else { 1 };
    let unroll = (0..).map(|halvings| unroll >> halvings).find(|unroll| pieces % unroll == 0).unwrap_or(1);
    Cut { tiles, warps, unroll }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_divides_what_it_cuts() {
        for bits in [4, 8, 16] {
            for (outputs, pieces, swiglu) in
                [(6144, 64, false), (32000, 128, false), (1536, 9, true), (49152, 18, false), (176, 1, false)]
            {
                let Cut { tiles, warps, unroll } = cut(bits, outputs, pieces, swiglu);
                assert_eq!(outputs % (16 * if swiglu { tiles / 2 } else { tiles }), 0);
                assert_eq!(pieces % unroll, 0);
                assert!(warps <= 32 && (!swiglu || tiles == 2));
            }
        }
    }

    #[test]
    fn many_rows_are_left_to_mlx_sooner_where_the_matrix_is_large() {
        let array = |shape: &[i32], dtype| mlx_rs::ops::zeros_dtype(shape, dtype).unwrap();
        let groups = array(&[1], mlx_rs::Dtype::Bfloat16);
        for (outputs, bits, most) in
            [(6144, 4, 256), (6144, 8, 256), (6144, 16, 128), (15360, 4, 96), (15360, 8, 64), (15360, 16, 32)]
        {
            let words = if bits == 16 { 1024 } else { 1024 * bits / 32 };
            let dtype = if bits == 16 { mlx_rs::Dtype::Bfloat16 } else { mlx_rs::Dtype::Uint32 };
            let weight = array(&[outputs, words], dtype);
            let quantized = (bits < 16).then_some((&groups, &groups, 64, bits));
            let weights = Weights { weight: &weight, quantized };
            assert!(weights.wins(most) && !weights.wins(most + 1), "{outputs} outputs, {bits} bits");
        }
    }

    #[test]
    fn nothing_is_served_where_there_is_no_nvidia_gpu() {
        if super::super::is_there() {
            return;
        }
        let array = |shape: &[i32]| mlx_rs::ops::zeros_dtype(shape, mlx_rs::Dtype::Bfloat16).unwrap();
        let (x, weight) = (array(&[1, 1, 64]), array(&[16, 64]));
        assert!(product(&x, None, Weights { weight: &weight, quantized: None }, Epilogue::Plain).unwrap().is_none());
    }
}
