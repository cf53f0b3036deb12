//! Parses and validates the head of a GGUF file: every count and offset is checked against the file's length before
//! anything is allocated for it.

use super::metadata::{Metadata, Value};
use crate::model::stored::Encoding;
use anyhow::{Context, Result, anyhow, bail};
use std::collections::HashSet;
use std::io::Read;

const MAGIC: &[u8; 4] = b"GGUF";
/// Longest key or tensor name, in bytes.
const MAX_NAME: u64 = 256;
/// Longest other string, in bytes; chat templates are the longest that occur.
const MAX_STRING: u64 = 1 << 24;
/// Most array elements in all metadata together; vocabularies are the largest that occur.
const MAX_ELEMENTS: u64 = 1 << 24;
const MAX_TENSORS: u64 = 1 << 20;
const MAX_DIMENSIONS: u32 = 4;
const DEFAULT_ALIGNMENT: u64 = 32;

/// A tensor as the head of the file describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorInfo {
    pub name: String,
    /// Outermost dimension first (the file has them the other way round).
    pub shape: Vec<u64>,
    pub kind: &'static Kind,
    /// From the start of the file.
    pub offset: u64,
    pub bytes: u64,
}

#[derive(Debug)]
pub struct Header {
    pub metadata: Metadata,
    /// In the order of the file.
    pub tensors: Vec<TensorInfo>,
}

/// A type of tensor values: blocks of so many values in so many bytes.
#[derive(Debug, PartialEq)]
pub struct Kind {
    pub name: &'static str,
    pub encoding: Encoding,
    pub block_values: u64,
    pub block_bytes: u64,
}

const fn kind(name: &'static str, encoding: Encoding, block_values: u64, block_bytes: u64) -> Kind {
    Kind { name, encoding, block_values, block_bytes }
}

/// The types that are supported, with their number in the file.
const KINDS: [(u32, Kind); 6] = [
    (0, kind("F32", Encoding::F32, 1, 4)),
    (1, kind("F16", Encoding::F16, 1, 2)),
    (2, kind("Q4_0", Encoding::Q4_0, 32, 18)),
    (3, kind("Q4_1", Encoding::Q4_1, 32, 20)),
    (8, kind("Q8_0", Encoding::Q8_0, 32, 34)),
    (30, kind("BF16", Encoding::Bf16, 1, 2)),
];

/// The names of the types that are not, so that messages can say them.
const UNSUPPORTED: [(u32, &str); 26] = [
    (6, "Q5_0"),
    (7, "Q5_1"),
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (12, "Q4_K"),
    (13, "Q5_K"),
    (14, "Q6_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
];

/// Reads the head of a file of `length` bytes. Errors do not name the file.
pub fn parse(reader: impl Read, length: u64) -> Result<Header> {
    let mut cursor = Cursor { reader, position: 0, length, elements_left: MAX_ELEMENTS };
    let version = check_magic(&mut cursor)?;
    let tensor_count = cursor.u64("the tensor count")?;
    let metadata_count = cursor.u64("the metadata count")?;
    // The smallest tensor description takes 32 bytes, the smallest metadata pair 13.
    if tensor_count > MAX_TENSORS || tensor_count > cursor.remaining() / 32 {
        bail!("the header claims {tensor_count} tensors, more than the file can hold");
    }
    if metadata_count > cursor.remaining() / 13 {
        bail!("the header claims {metadata_count} metadata pairs, more than the file can hold");
    }
    if tensor_count == 0 {
        bail!("there are no tensors in this GGUF version {version} file (a vocabulary alone is not a model)");
    }
    let metadata = read_metadata(&mut cursor, metadata_count)?;
    let tensors = read_tensors(&mut cursor, tensor_count)?;
    let alignment = alignment(&metadata)?;
    let tensors = place(tensors, cursor.position, length, alignment)?;
    Ok(Header { metadata, tensors })
}

fn check_magic<R: Read>(cursor: &mut Cursor<R>) -> Result<u32> {
    if cursor.length < 24 {
        bail!("only {} bytes long, too short for a GGUF file", cursor.length);
    }
    if &cursor.bytes::<4>("the magic bytes")? != MAGIC {
        bail!("not a GGUF file (it does not begin with 'GGUF')");
    }
    match cursor.u32("the version")? {
        version @ (2 | 3) => Ok(version),
        version if matches!(version.swap_bytes(), 1..=3) => bail!("a big-endian GGUF file, which is not supported"),
        version => bail!("GGUF version {version} is not supported (2 and 3 are)"),
    }
}

fn read_metadata<R: Read>(cursor: &mut Cursor<R>, count: u64) -> Result<Metadata> {
    let mut metadata = Metadata::default();
    for index in 0..count {
        let key = cursor.string("its key", MAX_NAME).with_context(|| format!("metadata pair {index}"))?;
        let value = read_value(cursor).with_context(|| format!("metadata key '{}'", key.escape_debug()))?;
        metadata.insert(key, value)?;
    }
    Ok(metadata)
}

fn read_value<R: Read>(cursor: &mut Cursor<R>) -> Result<Value> {
    const ARRAY: u32 = 9;
    let kind = cursor.u32("its type")?;
    if kind != ARRAY {
        return read_scalar(cursor, kind);
    }
    let kind = cursor.u32("its element type")?;
    let count = cursor.u64("its length")?;
    let bytes_each = match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        8 | 10..=12 => 8,
        ARRAY => bail!("an array of arrays is not supported"),
        other => bail!("unknown element type {other}"),
    };
    if count > cursor.elements_left || count > cursor.remaining() / bytes_each {
        bail!("claims {count} elements, more than the file can hold");
    }
    cursor.elements_left -= count;
    (0..count).map(|_| read_scalar(cursor, kind)).collect::<Result<_>>().map(Value::Array)
}

fn read_scalar<R: Read>(cursor: &mut Cursor<R>, kind: u32) -> Result<Value> {
    let what = "its value";
    Ok(match kind {
        0 => Value::U8(u8::from_le_bytes(cursor.bytes(what)?)),
        1 => Value::I8(i8::from_le_bytes(cursor.bytes(what)?)),
        2 => Value::U16(u16::from_le_bytes(cursor.bytes(what)?)),
        3 => Value::I16(i16::from_le_bytes(cursor.bytes(what)?)),
        4 => Value::U32(cursor.u32(what)?),
        5 => Value::I32(i32::from_le_bytes(cursor.bytes(what)?)),
        6 => Value::F32(f32::from_le_bytes(cursor.bytes(what)?)),
        7 => match cursor.bytes(what)? {
            [0] => Value::Bool(false),
            [1] => Value::Bool(true),
            [other] => bail!("the byte {other} is neither true nor false"),
        },
        8 => Value::String(cursor.string(what, MAX_STRING)?),
        10 => Value::U64(cursor.u64(what)?),
        11 => Value::I64(i64::from_le_bytes(cursor.bytes(what)?)),
        12 => Value::F64(f64::from_le_bytes(cursor.bytes(what)?)),
        other => bail!("unknown type {other}"),
    })
}

/// Descriptions with `offset` still relative to the data section.
fn read_tensors<R: Read>(cursor: &mut Cursor<R>, count: u64) -> Result<Vec<TensorInfo>> {
    let mut names = HashSet::new();
    let mut tensors = Vec::new();
    for index in 0..count {
        let name = cursor.string("its name", MAX_NAME).with_context(|| format!("tensor {index}"))?;
        if !names.insert(name.clone()) {
            bail!("tensor '{}' occurs twice", name.escape_debug());
        }
        let context = format!("tensor '{}'", name.escape_debug());
        tensors.push(read_tensor(cursor, name).context(context)?);
    }
    Ok(tensors)
}

fn read_tensor<R: Read>(cursor: &mut Cursor<R>, name: String) -> Result<TensorInfo> {
    let dimensions = cursor.u32("its number of dimensions")?;
    if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
        bail!("it has {dimensions} dimensions, not 1 to {MAX_DIMENSIONS}");
    }
    let mut shape = (0..dimensions).map(|_| cursor.u64("its shape")).collect::<Result<Vec<_>>>()?;
    let kind = find_kind(cursor.u32("its type")?)?;
    let offset = cursor.u64("its offset")?;
    let values = shape.iter().try_fold(1u64, |product, size| product.checked_mul(*size));
    let values = values.filter(|n| *n > 0).ok_or_else(|| anyhow!("its shape {shape:?} is impossible"))?;
    if shape[0] % kind.block_values != 0 {
        bail!("its rows of {} values are not whole {} blocks of {}", shape[0], kind.name, kind.block_values);
    }
    let bytes = (values / kind.block_values).checked_mul(kind.block_bytes);
    let bytes = bytes.ok_or_else(|| anyhow!("its shape {shape:?} is impossible"))?;
    shape.reverse();
    Ok(TensorInfo { name, shape, kind, offset, bytes })
}

fn find_kind(number: u32) -> Result<&'static Kind> {
    if let Some((_, kind)) = KINDS.iter().find(|(n, _)| *n == number) {
        return Ok(kind);
    }
    let name = UNSUPPORTED.iter().find(|(n, _)| *n == number).map(|(_, name)| *name);
    let name = name.map_or_else(|| format!("number {number}"), str::to_owned);
    let supported: Vec<_> = KINDS.iter().map(|(_, kind)| kind.name).collect();
    bail!("type {name} is not supported; use a file of this model in one of {}", supported.join(", "))
}

fn alignment(metadata: &Metadata) -> Result<u64> {
    let alignment = metadata.optional_u64("general.alignment")?.unwrap_or(DEFAULT_ALIGNMENT);
    if !alignment.is_power_of_two() || alignment > 1 << 20 {
        bail!("metadata key 'general.alignment' is {alignment}, not a power of two of a reasonable size");
    }
    Ok(alignment)
}

/// Checks that the tensors follow each other in the data section, each padded to the alignment and none beyond the
/// end of the file, and makes their offsets absolute.
fn place(mut tensors: Vec<TensorInfo>, header_end: u64, length: u64, alignment: u64) -> Result<Vec<TensorInfo>> {
    let start = header_end.next_multiple_of(alignment);
    let mut expected = 0;
    for tensor in &mut tensors {
        let name = tensor.name.escape_debug();
        if tensor.offset != expected {
            bail!("tensor '{name}' is at offset {} of the data, where {expected} must follow", tensor.offset);
        }
        let end = start.checked_add(expected).and_then(|begin| begin.checked_add(tensor.bytes));
        let end = end.filter(|end| *end <= length);
        let end = end.ok_or_else(|| {
            anyhow!("tensor '{name}' reaches beyond the end of the file ({length} bytes); the file is cut short")
        })?;
        tensor.offset = start + expected;
        expected = (end - start).next_multiple_of(alignment);
    }
    if length > start + expected {
        bail!("{} bytes follow the last tensor, which the header does not account for", length - start - expected);
    }
    Ok(tensors)
}

/// Reads little-endian values and never past the file's length.
struct Cursor<R> {
    reader: R,
    position: u64,
    length: u64,
    elements_left: u64,
}

impl<R: Read> Cursor<R> {
    fn remaining(&self) -> u64 {
        self.length - self.position
    }

    fn fill(&mut self, buffer: &mut [u8], what: &str) -> Result<()> {
        if buffer.len() as u64 > self.remaining() {
            bail!("the file ends inside {what}; it is cut short or damaged");
        }
        self.reader.read_exact(buffer).with_context(|| format!("reading {what} failed"))?;
        self.position += buffer.len() as u64;
        Ok(())
    }

    fn bytes<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut buffer = [0; N];
        self.fill(&mut buffer, what)?;
        Ok(buffer)
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.bytes(what)?))
    }

    fn u64(&mut self, what: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.bytes(what)?))
    }

    fn string(&mut self, what: &str, longest: u64) -> Result<String> {
        let length = self.u64(what)?;
        if length > longest.min(self.remaining()) {
            bail!("{what} claims {length} bytes, more than there can be; the file is damaged");
        }
        let mut buffer = vec![0; length as usize];
        self.fill(&mut buffer, what)?;
        String::from_utf8(buffer).map_err(|_| anyhow!("{what} is not UTF-8"))
    }
}
