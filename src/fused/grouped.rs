//! Products with weights in groups (see `src/blas/kernel/groups.rs`), and the rows of an embedding that lies so.

use super::host_op::{Output, View, add, parameters};
use crate::blas::grouped::{Rows, group, ungroup};
use crate::blas::{self, GROUP, GroupedProduct};
use anyhow::Result;
use mlx_rs::{Array, Dtype};

/// Tokens above which looking up rows is shared out between threads.
const ALONE: usize = 16;

/// The weights `[outputs, inputs]` (float32) of all `parts` in groups, those of one after those of the other:
/// `[ceil(outputs of all / 48), inputs, 48]`. Lazy.
pub fn grouped(parts: &[&Array]) -> Result<Array> {
    let outputs: usize = parts.iter().map(|part| part.dim(0) as usize).sum();
    let shape = [outputs.div_ceil(GROUP) as i32, parts[0].dim(1), GROUP as i32];
    let [groups] = add(parts, [Output::new(&shape)], group_kernel, parts.len())?;
    Ok(groups)
}

/// The opposite of [`grouped`]: `[outputs, inputs]`. Lazy.
pub fn ungrouped(weight: &Array, outputs: i32) -> Result<Array> {
    let (groups, inputs) = (weight.dim(0), weight.dim(1));
    let rows = weight.transpose_axes(&[0, 2, 1])?.reshape(&[groups * GROUP as i32, inputs])?;
    let places: Vec<u32> = (0..outputs as u32).collect();
    Ok(rows.take_axis(Array::from_slice(&places, &[outputs]), 0)?)
}

/// x · weightᵀ (+ bias): `x` is `[batch, b, inputs]`, `weight` the weights of `outputs` outputs in groups, `bias` `[outputs]`,
/// all float32. Gives `[batch, b, outputs]`. Lazy.
pub fn linear(x: &Array, weight: &Array, outputs: i32, bias: Option<&Array>) -> Result<Array> {
    let output = Output::new(&[x.dim(0), x.dim(1), outputs]);
    let mut inputs = vec![x, weight];
    inputs.extend(bias);
    let [y] = add(&inputs, [output], linear_kernel, bias.is_some())?;
    Ok(y)
}

/// The rows `ids` (`[batch, b]`, uint32) of weights in groups. Gives `[batch, b, inputs]`. Lazy.
pub fn rows(weight: &Array, ids: &Array) -> Result<Array> {
    let ids = ids.as_dtype(Dtype::Uint32)?;
    let output = Output::new(&[ids.dim(0), ids.dim(1), weight.dim(1)]);
    let [y] = add(&[&ids, weight], [output], rows_kernel, ())?;
    Ok(y)
}

unsafe extern "C" fn group_kernel(inputs: *const View, outputs: *const View, block: *const u8) {
    // SAFETY: what `grouped` gave.
    unsafe {
        let (parts, groups) = (std::slice::from_raw_parts(inputs, parameters(block)), &*outputs);
        let rows = |part: &View| Rows { first: part.pointer(), stride: part.stride(2), count: part.size(2) };
        group(&parts.iter().map(rows).collect::<Vec<_>>(), parts[0].size(3), groups.pointer());
    }
}

unsafe extern "C" fn linear_kernel(inputs: *const View, outputs: *const View, block: *const u8) {
    // SAFETY: what `linear` gave.
    unsafe {
        let (x, weight, y) = (&*inputs, &*inputs.add(1), &*outputs);
        let (outputs, inputs_count) = (y.size(3), x.size(3));
        let biased: bool = parameters(block);
        if biased {
            let bias = (*inputs.add(2)).read(0, outputs);
            (0..y.rows()).for_each(|row| y.write(row * outputs, outputs).copy_from_slice(bias));
        }
        let (products, rows, step) = x.products();
        for index in 0..products {
            blas::multiply_grouped(&GroupedProduct {
                rows,
                columns: outputs,
                depth: inputs_count,
                a: x.pointer().add(x.row(index * rows)),
                a_stride: step,
                b: weight.pointer(),
                c: y.pointer().add(index * rows * outputs),
                c_stride: outputs,
                add: biased,
            });
        }
    }
}

unsafe extern "C" fn rows_kernel(inputs: *const View, outputs: *const View, _: *const u8) {
    // SAFETY: what `rows` gave; each part writes a row of its own.
    unsafe {
        let (ids, weight, y) = (&*inputs, &*inputs.add(1), &*outputs);
        let (count, depth) = (y.rows(), y.size(3));
        let outputs = weight.size(1) * GROUP;
        let row = |place: usize| {
            // The ids are the last axis of their array.
            let (sequence, token) = (place / ids.size(3), place % ids.size(3));
            let id = ids.pointer().cast::<u32>().add(ids.row(sequence) + token).read() as usize;
            ungroup(weight.pointer(), id.min(outputs - 1), y.write(place * depth, depth));
        };
        if count < ALONE { (0..count).for_each(row) } else { blas::share(count, &row) }
    }
}
