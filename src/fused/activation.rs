//! The gated activation of the MLP.

use super::host_op::{Output, View, add};
use super::vector::{Loop, exp, vectorised};
use crate::blas;
use anyhow::Result;
use mlx_rs::Array;

/// Elements above which the rows are shared out between threads.
const ALONE: usize = 1 << 13;

/// silu(gate) · up. `gate_up` holds the rows of both, `[.., 2 · inner]`, gate first. Gives `[.., inner]`. Lazy.
pub fn swiglu(gate_up: &Array) -> Result<Array> {
    let mut shape = gate_up.shape().to_vec();
    if let Some(last) = shape.last_mut() {
        *last /= 2;
    }
    let [y] = add(&[gate_up], [Output::new(&shape)], kernel, ())?;
    Ok(y)
}

struct Row<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    y: &'a mut [f32],
}

impl Loop for Row<'_> {
    #[inline(always)]
    fn run(self) {
        for ((y, gate), up) in self.y.iter_mut().zip(self.gate).zip(self.up) {
            // The exponential of a negative number, so that nothing overflows.
            let small = exp(-gate.abs());
            let sigmoid = if *gate < 0.0 { small / (1.0 + small) } else { 1.0 / (1.0 + small) };
            *y = gate * sigmoid * up;
        }
    }
}

unsafe extern "C" fn kernel(inputs: *const View, outputs: *const View, _: *const u8) {
    // SAFETY: what `swiglu` gave; each part writes a row of its own.
    unsafe {
        let (gate_up, y) = (&*inputs, &*outputs);
        let (rows, inner) = (y.rows(), y.size(3));
        let row = |row: usize| {
            let gate = gate_up.row(row);
            let (gate, up) = (gate_up.read(gate, inner), gate_up.read(gate + inner, inner));
            vectorised(Row { gate, up, y: y.write(row * inner, inner) });
        };
        if rows * inner < ALONE { (0..rows).for_each(row) } else { blas::share(rows, &row) }
    }
}
