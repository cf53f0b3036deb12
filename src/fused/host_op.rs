//! Adds an operation to MLX's graph that a function of this program computes (see `scripts/native/host_op.cpp`).

use anyhow::{Result, bail};
use mlx_rs::Array;
use mlx_sys::mlx_array;
use std::slice;

/// The memory of one array: four dimensions, missing ones in front, strides in elements. The last axis is contiguous.
#[repr(C)]
pub struct View {
    data: *mut f32,
    shape: [i64; 4],
    strides: [i64; 4],
}

/// The shape of an output, up to four dimensions; float32 where [`add`] makes it.
#[repr(C)]
pub struct Output {
    shape: [i32; 4],
    dimensions: i32,
}

/// Bytes of a parameter block.
const PARAMETERS: usize = 64;

/// Computes the outputs from the inputs; both come in the order in which they were given to [`add`].
pub type Kernel = unsafe extern "C" fn(inputs: *const View, outputs: *const View, parameters: *const u8);

unsafe extern "C" {
    fn ridgepoint_host_op(
        outputs: *mut mlx_array,
        wanted: *const Output,
        output_count: usize,
        inputs: *const mlx_array,
        input_count: usize,
        kernel: Kernel,
        parameters: *const u8,
    ) -> i32;
}

impl View {
    /// Elements from `at` on.
    ///
    /// # Safety
    /// They lie inside the array.
    pub unsafe fn read<'a>(&self, at: usize, count: usize) -> &'a [f32] {
        unsafe { slice::from_raw_parts(self.data.add(at), count) }
    }

    /// Elements from `at` on, to be written.
    ///
    /// # Safety
    /// They lie inside the array and nobody else touches them meanwhile.
    #[allow(clippy::mut_from_ref)] // the memory is the array's, not the view's
    pub unsafe fn write<'a>(&self, at: usize, count: usize) -> &'a mut [f32] {
        unsafe { slice::from_raw_parts_mut(self.data.add(at), count) }
    }

    /// Bytes of a bool array from `at` on.
    ///
    /// # Safety
    /// It is one, and they lie inside it.
    pub unsafe fn flags<'a>(&self, at: usize, count: usize) -> &'a [bool] {
        unsafe { slice::from_raw_parts(self.data.cast::<bool>().add(at), count) }
    }

    pub fn pointer(&self) -> *mut f32 {
        self.data
    }

    /// Rows: all axes but the last.
    pub fn rows(&self) -> usize {
        self.shape[..3].iter().product::<i64>() as usize
    }

    /// The row's first element.
    pub fn row(&self, row: usize) -> usize {
        let (above, third) = (row / self.size(2), row % self.size(2));
        let (first, second) = (above / self.size(1), above % self.size(1));
        first * self.stride(0) + second * self.stride(1) + third * self.stride(2)
    }

    /// The rows as the left side of products with a weight matrix: products, rows of each, and elements from row to row. All
    /// rows are one product if they lie evenly: always, unless they are the last rows of several sequences.
    pub fn products(&self) -> (usize, usize, usize) {
        let even = self.size(2) == 1 || self.size(1) == 1 || self.stride(1) == self.size(2) * self.stride(2);
        let (products, rows) = if even { (1, self.rows()) } else { (self.size(1), self.size(2)) };
        let step = if self.size(2) > 1 { self.stride(2) } else { self.stride(1) };
        (products, rows, step.max(self.size(3)))
    }

    pub fn size(&self, axis: usize) -> usize {
        self.shape[axis] as usize
    }

    pub fn stride(&self, axis: usize) -> usize {
        self.strides[axis] as usize
    }
}

// SAFETY: a view is an address; who follows it answers for that.
unsafe impl Sync for View {}

impl Output {
    pub fn new(shape: &[i32]) -> Output {
        let mut output = Output { shape: [1; 4], dimensions: shape.len() as i32 };
        output.shape[..shape.len()].copy_from_slice(shape);
        output
    }
}

/// Adds one operation to the graph. `parameters` is handed to the kernel as it is.
pub fn add<P: Copy, const N: usize>(
    inputs: &[&Array],
    outputs: [Output; N],
    kernel: Kernel,
    parameters: P,
) -> Result<[Array; N]> {
    const { assert!(size_of::<P>() <= PARAMETERS) };
    let handles: Vec<mlx_array> = inputs.iter().map(|input| input.as_ptr()).collect();
    let mut made = [mlx_array { ctx: std::ptr::null_mut() }; N];
    let mut block = [0u8; PARAMETERS];
    // SAFETY: a plain block of bytes that is large enough.
    unsafe { block.as_mut_ptr().cast::<P>().write_unaligned(parameters) };
    // SAFETY: the pointers are valid for the counts given; the handles outlive the call, and MLX shares what they name.
    let status = unsafe {
        let (inputs, count) = (handles.as_ptr(), handles.len());
        ridgepoint_host_op(made.as_mut_ptr(), outputs.as_ptr(), N, inputs, count, kernel, block.as_ptr())
    };
    if status != 0 {
        bail!("MLX refused a fused operation");
    }
    // SAFETY: each handle is new and ours.
    Ok(made.map(|handle| unsafe { Array::from_ptr(handle) }))
}

/// The parameters that [`add`] was given.
///
/// # Safety
/// `P` is the type that was given.
pub unsafe fn parameters<P: Copy>(block: *const u8) -> P {
    unsafe { block.cast::<P>().read_unaligned() }
}
