//! Products with 8-bit weights in groups (see `src/blas/kernel/bytes.rs`), which read a quarter of what float32 weights take.

use super::host_op::{Output, View, add, parameters};
use crate::blas::{self, BytesProduct, GROUP};
use anyhow::Result;
use mlx_rs::ops::{pad, stack};
use mlx_rs::{Array, Dtype};

/// 8-bit weights `[outputs, inputs]` in the order in which products read them.
#[derive(Debug, Clone)]
pub struct Bytes {
    /// uint8 `[ceil(outputs / 48), inputs, 48]`.
    values: Array,
    /// float32 `[ceil(outputs / 48), inputs / block, 2, 48]`: scales, then offsets.
    scales: Array,
    outputs: i32,
}

impl Bytes {
    /// From MLX's affine quantisation at 8 bits: `weight` uint32 `[outputs, inputs / 4]`, `scales` and `biases`
    /// `[outputs, inputs / block]`. Lazy.
    pub fn new(weight: &Array, scales: &Array, biases: &Array) -> Result<Bytes> {
        let outputs = weight.dim(0);
        let values = in_groups(&weight.view_dtype(Dtype::Uint8)?)?;
        let float = |array: &Array| in_groups(&array.as_dtype(Dtype::Float32)?);
        let scales = stack(&[float(scales)?, float(biases)?], 2)?;
        Ok(Bytes { values: values.contiguous()?, scales: scales.contiguous()?, outputs })
    }

    /// As MLX quantises: `[weight, scales, biases]`, scales in float32. Lazy.
    pub fn stored(&self) -> Result<[Array; 3]> {
        let parts = self.scales.split_equal(2, 2)?;
        let weight = out_of_groups(&self.values, self.outputs)?.contiguous()?.view_dtype(Dtype::Uint32)?;
        let [scales, biases] = [0, 1].map(|part| out_of_groups(&parts[part].squeeze_axes(&[2])?, self.outputs));
        Ok([weight, scales?, biases?])
    }

    /// Weights that share scale and offset.
    pub fn block(&self) -> i32 {
        self.values.dim(1) / self.scales.dim(1)
    }

    /// The arrays it consists of.
    pub fn arrays(&self) -> [&Array; 2] {
        [&self.values, &self.scales]
    }

    /// x · weightᵀ (+ bias): `x` is `[batch, b, inputs]`, `bias` `[outputs]`, float32. Gives `[batch, b, outputs]`. Lazy.
    pub fn linear(&self, x: &Array, bias: Option<&Array>) -> Result<Array> {
        let output = Output::new(&[x.dim(0), x.dim(1), self.outputs]);
        let mut inputs = vec![x, &self.values, &self.scales];
        inputs.extend(bias);
        let [y] = add(&inputs, [output], linear_kernel, bias.is_some())?;
        Ok(y)
    }

    /// The rows `ids` (`[batch, b]`, uint32). Gives float32 `[batch, b, inputs]`. Lazy.
    pub fn rows(&self, ids: &Array) -> Result<Array> {
        let size = Array::from_int(GROUP as i32).as_dtype(Dtype::Uint32)?;
        let flat = ids.as_dtype(Dtype::Uint32)?.reshape(&[-1])?;
        let (group, place) = (flat.floor_divide(&size)?, flat.remainder(&size)?.reshape(&[-1, 1, 1])?);
        let values = self.values.take_axis(&group, 0)?.take_along_axis(&place, 2)?.as_dtype(Dtype::Float32)?;
        let scales = self.scales.take_axis(&group, 0)?.take_along_axis(place.expand_dims(3)?, 3)?;
        let parts = scales.split_equal(2, 2)?;
        let blocks = [ids.size() as i32, self.scales.dim(1), self.block()];
        let [scale, offset] = [0, 1].map(|part| parts[part].reshape(&[blocks[0], blocks[1], 1]));
        let rows = values.reshape(&blocks)?.multiply(scale?)?.add(offset?)?;
        Ok(rows.reshape(&[ids.dim(0), ids.dim(1), self.values.dim(1)])?)
    }
}

/// `[outputs, n]` to `[ceil(outputs / 48), n, 48]`; what a last group has too much is zero.
fn in_groups(rows: &Array) -> Result<Array> {
    let (outputs, n, group) = (rows.dim(0), rows.dim(1), GROUP as i32);
    let missing = (group - outputs % group) % group;
    let rows = if missing == 0 { rows.clone() } else { pad(rows, &[(0, missing), (0, 0)][..], None, None)? };
    Ok(rows.reshape(&[-1, group, n])?.transpose_axes(&[0, 2, 1])?)
}

/// The opposite of [`in_groups`].
fn out_of_groups(groups: &Array, outputs: i32) -> Result<Array> {
    let rows = groups.transpose_axes(&[0, 2, 1])?.reshape(&[-1, groups.dim(1)])?;
    Ok(rows.split_at_indices(&[outputs], 0)?.swap_remove(0))
}

unsafe extern "C" fn linear_kernel(inputs: *const View, outputs: *const View, block: *const u8) {
    // SAFETY: what `linear` gave.
    unsafe {
        let (x, values, scales, y) = (&*inputs, &*inputs.add(1), &*inputs.add(2), &*outputs);
        let (outputs, depth) = (y.size(3), x.size(3));
        let biased: bool = parameters(block);
        if biased {
            let bias = (*inputs.add(3)).read(0, outputs);
            (0..y.rows()).for_each(|row| y.write(row * outputs, outputs).copy_from_slice(bias));
        }
        let (products, rows, step) = x.products();
        for index in 0..products {
            blas::multiply_bytes(&BytesProduct {
                rows,
                columns: outputs,
                depth,
                block: depth / scales.size(1),
                a: x.pointer().add(x.row(index * rows)),
                a_stride: step,
                a_sums: std::ptr::null(),
                b: values.pointer().cast(),
                scales: scales.pointer(),
                c: y.pointer().add(index * rows * outputs),
                c_stride: outputs,
                add: biased,
            });
        }
    }
}
