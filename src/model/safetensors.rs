//! Directories as on the hub: `config.json`, the tokenizer's files, and tensors in safetensors files, one or sharded.
//! The head of each file is validated by our own code.

use super::checkpoint::Checkpoint;
use super::stored::{Catalogue, Encoding, Stored, TensorFile, dimensions};
use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

const INDEX: &str = "model.safetensors.index.json";
const MAX_HEADER: u64 = 100_000_000;
const MAX_TEXT: u64 = 1 << 28;

/// Opens a directory. Reads the files' heads only; the error names the file.
pub fn open(path: &Path) -> Result<(Checkpoint, Catalogue)> {
    let config = read_json(&path.join("config.json"))?.ok_or_else(|| no_config(path))?;
    refuse_other_quantisation(path, &config)?;
    let checkpoint = Checkpoint {
        path: path.to_owned(),
        config,
        tokenizer_json: read_text(&path.join("tokenizer.json"))?.unwrap_or_default(),
        tokenizer_config: tokenizer_config(path)?,
        generation_config: read_json(&path.join("generation_config.json"))?.unwrap_or_default(),
    };
    Ok((checkpoint, catalogue(path)?))
}

/// Opens one file by itself. Reads its head only; the error names the file.
pub fn open_file(path: &Path) -> Result<Catalogue> {
    let (directory, name) = (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or_default());
    let mut catalogue = Catalogue { path: path.to_owned(), files: Vec::new(), tensors: BTreeMap::new() };
    add_file(&mut catalogue, directory, &name.to_string_lossy())?;
    Ok(catalogue)
}

fn no_config(path: &Path) -> anyhow::Error {
    let directory = path.display();
    let gguf = file_names(path, ".gguf").unwrap_or_default();
    match gguf.first() {
        Some(file) => {
            crate::usage!("{directory}: has no config.json; to use the GGUF file in it, name it: {directory}/{file}")
        }
        None => crate::usage!(
            "{directory}: has no config.json, so it is not a model; fetch one with: ridgepoint fetch hf://ORGANISATION/NAME"
        ),
    }
}

/// Other programs' quantisation (GPTQ, AWQ, FP8 …) announces itself by `quant_method`.
fn refuse_other_quantisation(path: &Path, config: &Value) -> Result<()> {
    let Some(method) = config["quantization_config"].get("quant_method") else { return Ok(()) };
    bail!(
        "{}: 'quantization_config.quant_method' = {method} is not supported; use the original or an MLX-quantised checkpoint",
        path.join("config.json").display()
    );
}

/// `tokenizer_config.json`, with the chat template of newer checkpoints, which lies in a file of its own.
fn tokenizer_config(path: &Path) -> Result<Value> {
    let mut config = read_json(&path.join("tokenizer_config.json"))?.unwrap_or_default();
    if config.get("chat_template").is_none_or(Value::is_null)
        && let Some(template) = read_text(&path.join("chat_template.jinja"))?
    {
        if config.is_null() {
            config = Value::Object(Default::default());
        }
        config["chat_template"] = template.into();
    }
    Ok(config)
}

/// `None` where there is no such file. A JSON object, or an error.
fn read_json(path: &Path) -> Result<Option<Value>> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    let value: Value = serde_json::from_str(&text).with_context(|| format!("{}: not valid JSON", path.display()))?;
    if !value.is_object() {
        bail!("{}: not a JSON object", path.display());
    }
    Ok(Some(value))
}

fn read_text(path: &Path) -> Result<Option<String>> {
    let name = path.display();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(anyhow!(error).context(format!("{name}: cannot be opened"))),
    };
    let mut bytes = Vec::new();
    file.take(MAX_TEXT + 1).read_to_end(&mut bytes).with_context(|| format!("{name}: cannot be read"))?;
    if bytes.len() as u64 > MAX_TEXT {
        bail!("{name}: longer than {MAX_TEXT} bytes");
    }
    String::from_utf8(bytes).map(Some).map_err(|_| anyhow!("{name}: not UTF-8 text"))
}

fn catalogue(path: &Path) -> Result<Catalogue> {
    let index = read_index(path)?;
    let names = match &index {
        Some(index) => index.values().cloned().collect(),
        None => file_names(path, ".safetensors")?,
    };
    if names.is_empty() {
        bail!("{}: has no .safetensors file; fetch the model again, or another format of it", path.display());
    }
    let mut catalogue = Catalogue { path: path.to_owned(), files: Vec::new(), tensors: BTreeMap::new() };
    for name in &names {
        add_file(&mut catalogue, path, name)?;
    }
    if let Some(index) = index {
        check_index(path, &index, &catalogue)?;
    }
    Ok(catalogue)
}

fn file_names(path: &Path, ending: &str) -> Result<BTreeSet<String>> {
    let entries = std::fs::read_dir(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| name.ends_with(ending) && !name.starts_with('.')).collect())
}

/// Which file holds which tensor, where the directory says so.
fn read_index(path: &Path) -> Result<Option<BTreeMap<String, String>>> {
    let path = path.join(INDEX);
    let Some(mut index) = read_json(&path)? else { return Ok(None) };
    let map: BTreeMap<String, String> = serde_json::from_value(index["weight_map"].take())
        .with_context(|| format!("{}: 'weight_map' is wrong", path.display()))?;
    for file in map.values() {
        if !file.ends_with(".safetensors") || file.contains(['/', '\\', '\0']) {
            bail!("{}: 'weight_map' names the file {file:?}, which is not in this directory", path.display());
        }
    }
    Ok(Some(map))
}

fn check_index(path: &Path, index: &BTreeMap<String, String>, catalogue: &Catalogue) -> Result<()> {
    let index_path = path.join(INDEX);
    for (name, file) in index {
        let found = catalogue.tensors.get(name).map(|tensor| catalogue.file(tensor));
        if found != Some(path.join(file).as_path()) {
            bail!("{}: tensor {name:?} is not in {file:?}, where 'weight_map' has it", index_path.display());
        }
    }
    match catalogue.tensors.iter().find(|(name, _)| !index.contains_key(*name)) {
        Some((_, tensor)) => bail!("{}: not in the 'weight_map' of {INDEX}", catalogue.describe(tensor)),
        None => Ok(()),
    }
}

fn add_file(catalogue: &mut Catalogue, directory: &Path, name: &str) -> Result<()> {
    let path = directory.join(name);
    let shown = path.display().to_string();
    let file = File::open(&path).with_context(|| format!("{shown}: cannot be opened"))?;
    let length = file.metadata().with_context(|| format!("{shown}: cannot be read"))?.len();
    let index = catalogue.files.len();
    for mut tensor in read_header(&file, length).context(shown)? {
        tensor.file = index;
        if let Some(other) = catalogue.tensors.get(&tensor.name_in_file) {
            let other = catalogue.describe(other);
            bail!("{other} is also in {name}; remove the file that does not belong to the model");
        }
        catalogue.tensors.insert(tensor.name_in_file.clone(), tensor);
    }
    catalogue.files.push(TensorFile { path, file });
    Ok(())
}

/// One entry of the header, as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// The tensors of one file of `length` bytes, file number 0. Errors do not name the file.
fn read_header(mut reader: impl Read, length: u64) -> Result<Vec<Stored>> {
    let mut size = [0; 8];
    if length < 8 {
        bail!("only {length} bytes long, too short for a safetensors file");
    }
    reader.read_exact(&mut size).context("reading the header failed")?;
    let size = u64::from_le_bytes(size);
    if size > length - 8 || size > MAX_HEADER {
        bail!(
            "the header claims {size} bytes of a file of {length}; the file is cut short, damaged or not safetensors"
        );
    }
    let mut text = vec![0; size as usize];
    reader.read_exact(&mut text).context("reading the header failed")?;
    let Entries(entries) = serde_json::from_slice(&text).context("the header is not as safetensors have it")?;
    let data = 8 + size;
    let mut tensors = entries
        .into_iter()
        .map(|(name, entry)| {
            let context = format!("tensor '{}'", name.escape_debug());
            stored(name, entry, data, length).context(context)
        })
        .collect::<Result<Vec<_>>>()?;
    tensors.sort_by_key(|tensor| tensor.offset);
    check_layout(&tensors, data, length)?;
    Ok(tensors)
}

fn stored(name: String, entry: Entry, data: u64, length: u64) -> Result<Stored> {
    let (encoding, item_bytes) = encoding(&entry.dtype)?;
    let [begin, end] = entry.data_offsets;
    let bytes = entry.shape.iter().try_fold(item_bytes, |product, size| product.checked_mul(*size));
    let bytes = bytes.ok_or_else(|| anyhow!("its shape {:?} is impossible", entry.shape))?;
    if end.checked_sub(begin) != Some(bytes) {
        bail!("its offsets {begin} to {end} do not hold the {bytes} bytes of {} {:?}", entry.dtype, entry.shape);
    }
    if end > length - data {
        bail!("it reaches beyond the end of the file ({length} bytes); the file is cut short");
    }
    let shape = dimensions(entry.shape.into_iter())?;
    Ok(Stored { file: 0, name_in_file: name, encoding, shape, offset: data + begin, bytes, interleaved_heads: None })
}

fn encoding(dtype: &str) -> Result<(Encoding, u64)> {
    Ok(match dtype {
        "F32" => (Encoding::F32, 4),
        "F16" => (Encoding::F16, 2),
        "BF16" => (Encoding::Bf16, 2),
        "U32" => (Encoding::U32, 4),
        "BOOL" => (Encoding::Unused("BOOL"), 1),
        "U8" => (Encoding::Unused("U8"), 1),
        "I8" => (Encoding::Unused("I8"), 1),
        "I16" => (Encoding::Unused("I16"), 2),
        "I32" => (Encoding::Unused("I32"), 4),
        "I64" => (Encoding::Unused("I64"), 8),
        "F64" => (Encoding::Unused("F64"), 8),
        other => bail!("type '{}' is not supported (F32, F16, BF16 and MLX's U32 are)", other.escape_debug()),
    })
}

/// The format has the tensors side by side: no gap, no overlap, nothing behind the last.
fn check_layout(tensors: &[Stored], data: u64, length: u64) -> Result<()> {
    let mut expected = data;
    for tensor in tensors {
        if tensor.offset != expected {
            let relation = if tensor.offset < expected { "overlaps another" } else { "leaves a gap before it" };
            bail!("tensor '{}' {relation} in the file", tensor.name_in_file.escape_debug());
        }
        expected += tensor.bytes;
    }
    if expected != length {
        bail!("{} bytes follow the last tensor, which the header does not account for", length - expected);
    }
    Ok(())
}

/// The header's entries without `__metadata__`. A name that occurs twice is an error.
struct Entries(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let mut names = HashSet::new();
        let mut entries = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(serde::de::Error::custom(format!("'{}' occurs twice", name.escape_debug())));
            }
            if name == "__metadata__" {
                map.next_value::<BTreeMap<String, String>>()?;
            } else {
                entries.push((name, map.next_value()?));
            }
        }
        Ok(Entries(entries))
    }
}
