//! The tensors of a checkpoint, read one by one as a model takes them, in the precision that was asked for.
//!
//! Every tensor is read from a file that our own code has validated, checked against the shape that the model expects,
//! and evaluated before the next one is read, so that no more than one source lies in memory.

pub use super::matrix::Matrix;

use super::checkpoint::Checkpoint;
use super::gguf::{self, blocks};
use super::safetensors;
use super::stored::{Catalogue, Encoding, Stored};
#[cfg(target_os = "linux")]
use crate::blas::pages::LoadingHeap;
use crate::scenario::{self, Quantization};
use anyhow::{Context, Result, anyhow, bail};
use mlx_rs::{Array, Dtype, transforms};
use serde_json::Value;
use std::path::Path;

/// What to change about the precision of a checkpoint.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadOptions {
    /// Everything in this float type, dequantised where it was quantised.
    pub dtype: Option<Dtype>,
    /// Linear layers and the embedding quantised like this, from values of `dtype` if that is given too.
    pub quantize: Option<Quantization>,
}

impl From<scenario::Dtype> for Dtype {
    fn from(dtype: scenario::Dtype) -> Self {
        match dtype {
            scenario::Dtype::Float32 => Dtype::Float32,
            scenario::Dtype::Float16 => Dtype::Float16,
            scenario::Dtype::Bfloat16 => Dtype::Bfloat16,
        }
    }
}

/// Tensors that have not been taken yet.
#[derive(Debug)]
pub struct Weights {
    catalogue: Catalogue,
    /// `quantization` of `config.json`, else null.
    quantization: Value,
    options: LoadOptions,
    /// The type of everything but quantised matrices; as stored if not given.
    dtype: Option<Dtype>,
}

/// Opens a checkpoint: a GGUF file, or a directory of safetensors as on the hub. Tensors are read when they are taken.
pub fn load(path: &Path, options: &LoadOptions) -> Result<(Checkpoint, Weights)> {
    let name = path.display();
    let metadata = std::fs::metadata(path);
    let is_directory = metadata.as_ref().is_ok_and(|metadata| metadata.is_dir());
    let (checkpoint, mut catalogue) = match metadata {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(crate::usage!(
                "{name}: no such file or directory; fetch a model with: ridgepoint fetch hf://ORGANISATION/NAME"
            ));
        }
        Err(error) => return Err(error).with_context(|| format!("{name}: cannot be read")),
        Ok(_) if is_directory => safetensors::open(path)?,
        Ok(_) if path.extension().is_some_and(|extension| extension == "safetensors") => {
            return Err(crate::usage!("{name}: name the directory that holds it and its config.json"));
        }
        Ok(_) => gguf::open(path)?,
    };
    // GGUF keeps vectors in float32 beside matrices of other types; on the hub all have the type that it declares.
    let declared = if is_directory { None } else { declared_dtype(&checkpoint) };
    if checkpoint.config["tie_word_embeddings"] == true {
        catalogue.tensors.retain(|name, _| !name.starts_with("lm_head."));
    }
    let quantization = checkpoint.config.get("quantization").cloned().unwrap_or_default();
    let dtype = options.dtype.or(declared);
    Ok((checkpoint, Weights { catalogue, quantization, options: *options, dtype }))
}

/// The float type that `config.json` says the weights have.
pub fn declared_dtype(checkpoint: &Checkpoint) -> Option<Dtype> {
    let name = checkpoint.config.get("torch_dtype").or(checkpoint.config.get("dtype"))?;
    Some(name.as_str()?.parse::<scenario::Dtype>().ok()?.into())
}

/// Where a model's tensors come from.
pub trait Tensors {
    /// A dense tensor by its full name.
    fn take(&mut self, name: &str, shape: &[i32]) -> Result<Array>;

    /// The matrix `{module}.weight` of shape `[outputs, inputs]`, for example of `model.layers.0.mlp.up_proj`.
    fn take_matrix(&mut self, module: &str, outputs: i32, inputs: i32) -> Result<Matrix>;
}

impl Tensors for Weights {
    fn take(&mut self, name: &str, shape: &[i32]) -> Result<Array> {
        let tensor = self.remove(name, shape)?;
        self.in_context(&tensor, |weights| {
            let array = weights.read_dense(&tensor)?;
            let array = array.as_dtype(weights.dtype.unwrap_or(array.dtype()))?;
            array.eval()?;
            Ok(array)
        })
    }

    fn take_matrix(&mut self, module: &str, outputs: i32, inputs: i32) -> Result<Matrix> {
        let name = format!("{module}.weight");
        let quantized = self.contains(&format!("{module}.scales"));
        let settings = if quantized { Some(self.settings(module)?) } else { None };
        let columns = match settings {
            None => inputs,
            Some(Quantization { bits, group_size }) => {
                if inputs % group_size != 0 {
                    bail!("{}: '{module}' has rows of {inputs}, not whole groups of {group_size}", self.config_path());
                }
                inputs / 32 * bits
            }
        };
        let tensor = self.remove(&name, &[outputs, columns])?;
        let scales_and_biases = settings
            .map(|Quantization { group_size, .. }| self.groups(module, &[outputs, inputs / group_size]))
            .transpose()?;
        self.in_context(&tensor, |weights| {
            let matrix = match (settings, scales_and_biases) {
                (Some(Quantization { bits, group_size }), Some((scales, biases))) => {
                    if tensor.encoding != Encoding::U32 {
                        bail!("it has scales but is not of type U32");
                    }
                    let weight = array(&weights.catalogue.read(&tensor)?, &tensor.shape, Dtype::Uint32)?;
                    Matrix::Quantized { weight, scales, biases, group_size, bits }
                }
                _ => weights.read_matrix(&tensor)?,
            };
            let matrix = weights.in_wanted_precision(matrix)?;
            transforms::eval(matrix.arrays())?;
            Ok(matrix)
        })
    }
}

impl Weights {
    /// The type that everything but quantised matrices should have; `None` where the file's own types count.
    pub fn dtype(&self) -> Option<Dtype> {
        self.dtype
    }

    /// Refuses weights that do not fit into this machine's memory all together.
    pub fn check_memory(&self) -> Result<()> {
        super::memory::check(&self.catalogue, &self.options)
    }

    /// A heap in huge pages to take all tensors to, in the precision asked for. A CPU's is brought in meanwhile; a graphics card
    /// has memory of its own.
    #[cfg(target_os = "linux")]
    pub fn heap(&self) -> Result<LoadingHeap> {
        let (all, most) = super::memory::while_loading(&self.catalogue, &self.options);
        let here = matches!(mlx_rs::Device::try_default()?.get_type()?, mlx_rs::DeviceType::Cpu);
        Ok(LoadingHeap::grow_ahead(most as usize, if here { all as usize } else { 0 }))
    }

    /// Refuses tensors that do not fit into memory one at a time, with up to `pending` bytes of others.
    pub fn check_memory_one_by_one(&self, pending: usize) -> Result<()> {
        super::memory::check_one_by_one(&self.catalogue, &self.options, pending as u64)
    }

    /// Whether there is a tensor of this full name, for example `model.norm.weight`.
    pub fn contains(&self, name: &str) -> bool {
        self.catalogue.tensors.contains_key(name)
    }

    /// Takes `count` token ids, a tensor of unsigned numbers, by its full name.
    pub fn take_ids(&mut self, name: &str, count: i32) -> Result<Vec<u32>> {
        let tensor = self.remove(name, &[count])?;
        self.in_context(&tensor, |weights| {
            if tensor.encoding != Encoding::U32 {
                bail!("it is not of type U32, as token ids are");
            }
            let bytes = weights.catalogue.read(&tensor)?;
            Ok(bytes.chunks_exact(4).map(|id| u32::from_le_bytes([id[0], id[1], id[2], id[3]])).collect())
        })
    }

    /// Takes any tensor that is left, matrices as such, with its full name. `None` when all are taken.
    pub fn take_next(&mut self) -> Result<Option<(String, Matrix)>> {
        let next = self.catalogue.tensors.iter().find(|(name, _)| !is_computed(name));
        let Some((name, shape)) = next.map(|(name, tensor)| (name.clone(), tensor.shape.clone())) else {
            return Ok(None);
        };
        let module = name.rsplit_once('.').map_or(&*name, |(module, _)| module);
        let weight = format!("{module}.weight");
        if self.contains(&format!("{module}.scales")) {
            let Quantization { bits, .. } = self.settings(module)?;
            let packed = self.catalogue.tensors.get(&weight).map(|tensor| tensor.shape.clone()).unwrap_or_default();
            let inputs = packed.get(1).and_then(|words| (words / bits).checked_mul(32)).unwrap_or_default();
            let outputs = packed.first().copied().unwrap_or_default();
            return Ok(Some((weight, self.take_matrix(module, outputs, inputs)?)));
        }
        if let ([outputs, inputs], true) = (&shape[..], name == weight) {
            return Ok(Some((weight, self.take_matrix(module, *outputs, *inputs)?)));
        }
        let array = self.take(&name, &shape)?;
        Ok(Some((name, Matrix::Dense(array))))
    }

    /// Refuses tensors that nothing took: a checkpoint of another architecture than it declares. Buffers that models
    /// compute themselves do not count.
    pub fn finish(self) -> Result<()> {
        let left = self.catalogue.tensors.iter().filter(|(name, _)| !is_computed(name));
        let left: Vec<_> = left.map(|(_, tensor)| tensor).collect();
        mlx_rs::memory::clear_cache()?;
        match left.as_slice() {
            [] => Ok(()),
            [first, ..] => bail!(
                "{} belongs to no part of the model that the configuration describes ({} such tensors)",
                self.catalogue.describe(first),
                left.len()
            ),
        }
    }

    fn config_path(&self) -> String {
        self.catalogue.path.join("config.json").display().to_string()
    }

    fn remove(&mut self, name: &str, shape: &[i32]) -> Result<Stored> {
        let Some(tensor) = self.catalogue.tensors.remove(name) else {
            bail!("{}: tensor '{name}' is missing", self.catalogue.path.display());
        };
        if tensor.shape != shape {
            let tensor_name = self.catalogue.describe(&tensor);
            bail!("{tensor_name} has shape {:?}; the configuration calls for {shape:?}", tensor.shape);
        }
        Ok(tensor)
    }

    /// Scales and biases of an MLX-quantised matrix.
    fn groups(&mut self, module: &str, shape: &[i32]) -> Result<(Array, Array)> {
        let mut take = |part: &str| {
            let tensor = self.remove(&format!("{module}.{part}"), shape)?;
            self.in_context(&tensor, |weights| weights.read_dense(&tensor))
        };
        Ok((take("scales")?, take("biases")?))
    }

    fn in_context<T>(&self, tensor: &Stored, work: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        work(self).with_context(|| self.catalogue.describe(tensor))
    }

    fn in_wanted_precision(&self, matrix: Matrix) -> Result<Matrix> {
        let LoadOptions { dtype, quantize } = self.options;
        let matrix = match dtype {
            Some(dtype) => Matrix::Dense(matrix.dense(dtype)?),
            None => matrix,
        };
        match quantize {
            Some(Quantization { bits, group_size }) => matrix.quantized(bits, group_size),
            None => Ok(matrix),
        }
    }

    /// A matrix as the file has it; GGUF's blocks become MLX's quantisation, or dense if something else was asked for.
    fn read_matrix(&self, tensor: &Stored) -> Result<Matrix> {
        let as_stored = self.options.dtype.is_none() && self.options.quantize.is_none();
        if as_stored && tensor.encoding.is_blocks() {
            return self.read_blocks(tensor);
        }
        Ok(Matrix::Dense(self.read_dense(tensor)?))
    }

    /// The values in the type that the file has them in; those of blocks in the type asked for, or their scales'.
    fn read_dense(&self, tensor: &Stored) -> Result<Array> {
        let dtype = match tensor.encoding {
            Encoding::F32 => Dtype::Float32,
            Encoding::F16 => Dtype::Float16,
            Encoding::Bf16 => Dtype::Bfloat16,
            Encoding::U32 => bail!("its type is U32; weights are of a float type unless they have scales"),
            Encoding::Unused(kind) => bail!("its type is {kind}; only F32, F16 and BF16 are supported"),
            Encoding::Q4_0 | Encoding::Q4_1 | Encoding::Q8_0 => {
                let values = blocks::unpack(tensor.encoding, &self.catalogue.read(tensor)?)?;
                let array = array(bytes_of(&values), &tensor.shape, Dtype::Float32)?;
                return Ok(array.as_dtype(self.options.dtype.unwrap_or(Dtype::Float16))?);
            }
        };
        array(&self.catalogue.read(tensor)?, &tensor.shape, dtype)
    }

    fn read_blocks(&self, tensor: &Stored) -> Result<Matrix> {
        let packed = blocks::pack(tensor.encoding, &self.catalogue.read(tensor)?)?;
        let shape_of = |values_each: i32| {
            let mut shape = tensor.shape.clone();
            if let Some(last) = shape.last_mut() {
                *last /= values_each;
            }
            shape
        };
        let weight = array(bytes_of(&packed.words), &shape_of(32 / packed.bits), Dtype::Uint32)?;
        let groups = shape_of(blocks::GROUP_SIZE);
        let scales = array(bytes_of(&packed.scales), &groups, Dtype::Float16)?;
        let biases = match &packed.biases {
            blocks::Biases::Stored(patterns) => array(bytes_of(patterns), &groups, Dtype::Float16)?,
            blocks::Biases::Scales(factor) => scales.multiply(Array::from_f32(*factor).as_dtype(Dtype::Float16)?)?,
        };
        Ok(Matrix::Quantized { weight, scales, biases, group_size: blocks::GROUP_SIZE, bits: packed.bits })
    }

    /// How a module of an MLX-quantised checkpoint is quantised.
    fn settings(&self, module: &str) -> Result<Quantization> {
        let common = &self.quantization;
        let own = common.get(module).filter(|own| own.is_object()).unwrap_or(common);
        let wrong = |key: &str, found: &Value| {
            format!("{}: 'quantization.{key}' = {found} (for '{module}') is not supported", self.config_path())
        };
        let number = |key: &str| {
            let value = &own[key];
            value.as_i64().and_then(|n| i32::try_from(n).ok()).with_context(|| wrong(key, value))
        };
        let mode = &own["mode"];
        if !mode.is_null() && mode != "affine" {
            bail!("{}; only \"affine\" is", wrong("mode", mode));
        }
        let (bits, group_size) = (number("bits")?, number("group_size")?);
        Quantization::new(bits, group_size)
            .map_err(|reason| anyhow!("{}: 'quantization' of '{module}': {reason}", self.config_path()))
    }
}

/// Whether a tensor is a buffer that models compute themselves, which old checkpoints have all the same.
fn is_computed(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq")
}

/// Copies `bytes` into an array. Their number is checked.
fn array(bytes: &[u8], shape: &[i32], dtype: Dtype) -> Result<Array> {
    let item_bytes = match dtype {
        Dtype::Float16 | Dtype::Bfloat16 => 2,
        _ => 4,
    };
    let needed = shape.iter().try_fold(item_bytes, |product: usize, size| product.checked_mul(*size as usize));
    if needed != Some(bytes.len()) {
        bail!("{} bytes are not {dtype:?} of shape {shape:?}", bytes.len());
    }
    // SAFETY: MLX copies as many bytes as the shape and type need, and `bytes` has that many.
    let array = unsafe { Array::from_raw_data(bytes.as_ptr().cast(), shape, dtype) };
    if array.as_ptr().ctx.is_null() {
        bail!("no memory for an array of {} bytes", bytes.len());
    }
    Ok(array)
}

/// The memory of plain numbers.
fn bytes_of<T: Number>(numbers: &[T]) -> &[u8] {
    // SAFETY: the types that implement the trait have no padding, and every byte of them is valid.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers)) }
}

trait Number: Copy {}
impl Number for u16 {}
impl Number for u32 {}
impl Number for f32 {}
