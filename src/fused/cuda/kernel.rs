//! Adds a CUDA kernel of ours to MLX's graph, through MLX's interface for custom kernels.

use crate::fused::again::Again;
use anyhow::{Result, bail};
use mlx_rs::{Array, Dtype};
use mlx_sys::{mlx_array, mlx_fast_cuda_kernel, mlx_vector_array};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::raw::{c_char, c_int};
use std::ptr::null_mut;

/// A kernel before its template arguments are known.
pub struct Kernel(mlx_fast_cuda_kernel);

// SAFETY: MLX's object is a function without state of its own.
unsafe impl Send for Kernel {}
unsafe impl Sync for Kernel {}

/// Launches that are kept. Each has its source, some ten thousand characters.
const KEPT: usize = 1024;

/// Template numbers that a launch may have.
const NUMBERS: usize = 12;

/// What is compiled by itself. The types of the inputs follow from it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Compiled {
    kernel: usize,
    dtype: u32,
    numbers: [i32; NUMBERS],
}

/// What a launch differs by.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    compiled: Compiled,
    blocks: [i32; 3],
    threads: i32,
}

thread_local! {
    /// MLX writes a kernel's source anew for each launch, which takes longer than the rest of adding it. A thread has a stream of
    /// its own.
    static ADDED: RefCell<HashMap<Key, Again>> = RefCell::new(HashMap::new());
    static USED: RefCell<HashSet<Compiled>> = RefCell::new(HashSet::new());
}

/// How many kernels this thread has used. Where there are more of them than before, some were compiled, or at least loaded.
pub fn kernels_used() -> usize {
    USED.with_borrow(HashSet::len)
}

/// One launch: threads in all and of a block, and template arguments by name.
pub struct Launch<'a> {
    pub blocks: [i32; 3],
    /// Threads of a block.
    pub threads: i32,
    /// The type that `T` stands for.
    pub dtype: Dtype,
    pub numbers: &'a [(&'static CStr, i32)],
}

impl Kernel {
    /// `source` is the kernel's body over the names of its inputs and outputs; `headers` are what it calls. With `contiguous`
    /// inputs that are not laid out row by row are copied.
    pub fn new(
        name: &str,
        inputs: &[&CStr],
        outputs: &[&CStr],
        headers: &[&str],
        source: &str,
        contiguous: bool,
    ) -> Kernel {
        let header = headers.concat();
        // MLX keeps what it has compiled by name.
        let mut hasher = DefaultHasher::new();
        (&header, source).hash(&mut hasher);
        let text = |text: &str| CString::new(text).expect("our sources hold no zero byte");
        let (name, source) = (text(&format!("ridgepoint_{name}_{:016x}", hasher.finish())), text(source));
        let names = |names: &[&CStr]| {
            let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
            // SAFETY: valid strings, which MLX copies.
            unsafe { mlx_sys::mlx_vector_string_new_data(pointers.as_mut_ptr(), pointers.len()) }
        };
        let (inputs, outputs, header) = (names(inputs), names(outputs), text(&header));
        // SAFETY: valid strings, which MLX copies; the vectors are ours to free.
        unsafe {
            let (name, source, header) = (name.as_ptr(), source.as_ptr(), header.as_ptr());
            let kernel = mlx_sys::mlx_fast_cuda_kernel_new(name, inputs, outputs, source, header, contiguous, 0);
            mlx_sys::mlx_vector_string_free(inputs);
            mlx_sys::mlx_vector_string_free(outputs);
            Kernel(kernel)
        }
    }

    /// Adds a launch to the graph. `outputs` are shapes and types of what it makes. Lazy.
    pub fn add<const N: usize>(
        &self,
        inputs: &[&Array],
        outputs: [(&[i32], Dtype); N],
        launch: &Launch,
    ) -> Result<[Array; N]> {
        let mut numbers = [0; NUMBERS];
        for (place, (_, number)) in numbers.iter_mut().zip(launch.numbers) {
            *place = *number;
        }
        let Launch { blocks, threads, .. } = *launch;
        let compiled = Compiled { kernel: self.0.ctx as usize, dtype: launch.dtype as u32, numbers };
        let key = Key { compiled, blocks, threads };
        ADDED.with_borrow_mut(|added| {
            if let Some(again) = added.get(&key) {
                return again.add(inputs, outputs.map(|(shape, _)| shape));
            }
            let made = self.add_first(inputs, outputs, launch)?;
            USED.with_borrow_mut(|used| used.insert(compiled));
            if added.len() == KEPT {
                added.clear();
            }
            added.insert(key, Again::of(&made, inputs.len())?);
            Ok(made)
        })
    }

    fn add_first<const N: usize>(
        &self,
        inputs: &[&Array],
        outputs: [(&[i32], Dtype); N],
        launch: &Launch,
    ) -> Result<[Array; N]> {
        assert!(launch.numbers.len() <= NUMBERS, "more template numbers than a key holds");
        let handles: Vec<mlx_array> = inputs.iter().map(|input| input.as_ptr()).collect();
        let [x, y, z] = launch.blocks;
        let mut made = [mlx_array { ctx: null_mut() }; N];
        // SAFETY: the handles outlive the call and MLX shares what they name; all else made here is freed here.
        let failed = unsafe {
            let config = mlx_sys::mlx_fast_cuda_kernel_config_new();
            let mut failed = mlx_sys::mlx_fast_cuda_kernel_config_set_grid(config, x * launch.threads, y, z);
            failed |= mlx_sys::mlx_fast_cuda_kernel_config_set_thread_group(config, launch.threads, 1, 1);
            for (shape, dtype) in outputs {
                let (shape, size) = (shape.as_ptr(), shape.len());
                failed |= mlx_sys::mlx_fast_cuda_kernel_config_add_output_arg(config, shape, size, dtype as u32);
            }
            let dtype = launch.dtype as u32;
            failed |= mlx_sys::mlx_fast_cuda_kernel_config_add_template_arg_dtype(config, c"T".as_ptr(), dtype);
            for (name, value) in launch.numbers {
                let (name, value) = (name.as_ptr(), *value as c_int);
                failed |= mlx_sys::mlx_fast_cuda_kernel_config_add_template_arg_int(config, name, value);
            }
            let from = mlx_sys::mlx_vector_array_new_data(handles.as_ptr(), handles.len());
            let mut to: mlx_vector_array = mlx_sys::mlx_vector_array_new();
            let stream = mlx_sys::mlx_default_gpu_stream_new();
            failed |= mlx_sys::mlx_fast_cuda_kernel_apply(&mut to, self.0, from, config, stream);
            if failed == 0 {
                for (place, array) in made.iter_mut().enumerate() {
                    *array = mlx_sys::mlx_array_new();
                    failed |= mlx_sys::mlx_vector_array_get(array, to, place);
                }
            }
            mlx_sys::mlx_stream_free(stream);
            mlx_sys::mlx_vector_array_free(to);
            mlx_sys::mlx_vector_array_free(from);
            mlx_sys::mlx_fast_cuda_kernel_config_free(config);
            failed
        };
        if failed != 0 {
            bail!("MLX refused a CUDA kernel");
        }
        // SAFETY: each handle is new and ours.
        Ok(made.map(|handle| unsafe { Array::from_ptr(handle) }))
    }
}
