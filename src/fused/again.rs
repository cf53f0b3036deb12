//! Operations that MLX made once, added to its graph again with other inputs (see `scripts/native/again.cpp`).

use super::host_op::Output;
use anyhow::{Result, bail};
use mlx_rs::Array;
use mlx_sys::mlx_array;
use std::ptr::{NonNull, null_mut};

/// Of `scripts/native/again.cpp`.
#[repr(C)]
struct Operation {
    _private: [u8; 0],
}

unsafe extern "C" {
    fn ridgepoint_again_new(outputs: *const mlx_array, count: usize) -> *mut Operation;
    fn ridgepoint_again_free(operation: *mut Operation);
    fn ridgepoint_again_add(
        operation: *const Operation,
        outputs: *mut mlx_array,
        wanted: *const Output,
        inputs: *const mlx_array,
        input_count: usize,
    ) -> i32;
}

/// What MLX knows of an operation. It keeps no array.
pub struct Again {
    operation: NonNull<Operation>,
    inputs: usize,
    outputs: usize,
}

impl Again {
    /// The operation that made `outputs` from so many inputs. They are all of its outputs and not evaluated yet.
    pub fn of(outputs: &[Array], inputs: usize) -> Result<Self> {
        let handles: Vec<mlx_array> = outputs.iter().map(|output| output.as_ptr()).collect();
        // SAFETY: so many valid handles.
        match NonNull::new(unsafe { ridgepoint_again_new(handles.as_ptr(), handles.len()) }) {
            Some(operation) => Ok(Again { operation, inputs, outputs: outputs.len() }),
            None => bail!("an array was evaluated before its operation could be kept"),
        }
    }

    /// Adds it to the graph: what it was made with holds, but for inputs and shapes of outputs. The inputs must be of the types that
    /// they were of. Lazy.
    pub fn add<const N: usize>(&self, inputs: &[&Array], shapes: [&[i32]; N]) -> Result<[Array; N]> {
        assert_eq!(
            (inputs.len(), N),
            (self.inputs, self.outputs),
            "an operation has as many inputs and outputs as before"
        );
        let handles: Vec<mlx_array> = inputs.iter().map(|input| input.as_ptr()).collect();
        let wanted = shapes.map(Output::new);
        let mut made = [mlx_array { ctx: null_mut() }; N];
        // SAFETY: the pointers are valid for the counts given; the handles outlive the call, and MLX shares what they name.
        let failed = unsafe {
            let (wanted, inputs) = (wanted.as_ptr(), handles.as_ptr());
            ridgepoint_again_add(self.operation.as_ptr(), made.as_mut_ptr(), wanted, inputs, handles.len())
        };
        if failed != 0 {
            bail!("MLX refused an operation that it made before");
        }
        // SAFETY: each handle is new and ours.
        Ok(made.map(|handle| unsafe { Array::from_ptr(handle) }))
    }
}

impl Drop for Again {
    fn drop(&mut self) {
        // SAFETY: it is ours and not used any more.
        unsafe { ridgepoint_again_free(self.operation.as_ptr()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlx_rs::ops::{exp, split_equal};

    #[test]
    fn an_operation_is_done_again_with_other_inputs_and_shapes() {
        let array = |values: &[f32]| Array::from_slice(values, &[values.len() as i32]);
        let made = [exp(array(&[0.0])).unwrap()];
        let again = Again::of(&made, 1).unwrap();
        drop(made);
        let [y] = again.add(&[&array(&[1.0, 2.0])], [&[2]]).unwrap();
        assert_eq!(y.as_slice::<f32>(), exp(array(&[1.0, 2.0])).unwrap().as_slice::<f32>());
    }

    #[test]
    fn all_outputs_of_an_operation_come_again() {
        let array = |values: &[i32]| Array::from_slice(values, &[values.len() as i32]);
        let made: [Array; 2] = split_equal(array(&[1, 2, 3, 4]), 2, 0).unwrap().try_into().unwrap();
        let [low, high] = Again::of(&made, 1).unwrap().add(&[&array(&[5, 6, 7, 8])], [&[2], &[2]]).unwrap();
        assert_eq!((low.as_slice::<i32>(), high.as_slice::<i32>()), (&[5, 6][..], &[7, 8][..]));
    }

    #[test]
    fn what_is_no_operation_cannot_be_done_again() {
        assert!(Again::of(&[Array::from_f32(1.0)], 0).is_err());
    }
}
