//! Where a checkpoint's tensors lie, by their names on the hub, whatever file format holds them.

use anyhow::{Context, Result, anyhow, bail};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// How a tensor's values are written in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    F32,
    F16,
    Bf16,
    /// Whole numbers, or several smaller ones packed into each (MLX's quantised weights).
    U32,
    /// GGUF blocks of 32 values with one float16 scale: `scale * (q - 8)`, 4 bits each.
    Q4_0,
    /// GGUF blocks of 32 values with a float16 scale and minimum: `scale * q + minimum`, 4 bits each.
    Q4_1,
    /// GGUF blocks of 32 values with one float16 scale: `scale * q`, 8 bits each.
    Q8_0,
    /// A type that no supported model uses; may lie in a file as long as nothing asks for it.
    Unused(&'static str),
}

impl Encoding {
    /// Whether the values lie in GGUF's quantised blocks.
    pub fn is_blocks(self) -> bool {
        matches!(self, Encoding::Q4_0 | Encoding::Q4_1 | Encoding::Q8_0)
    }
}

/// One tensor in a file. The format's reader has checked that `offset..offset + bytes` lies in the file and that
/// `bytes` is what `shape` and `encoding` need.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Index into [`Catalogue::files`].
    pub file: usize,
    /// Its name in the file, for messages.
    pub name_in_file: String,
    pub encoding: Encoding,
    /// Outermost dimension first.
    pub shape: Vec<i32>,
    /// From the start of the file.
    pub offset: u64,
    pub bytes: u64,
    /// The number of heads whose rows GGUF has reordered for interleaved rotary embedding, where it has.
    pub interleaved_heads: Option<usize>,
}

/// An open file.
#[derive(Debug)]
pub struct TensorFile {
    pub path: PathBuf,
    pub file: File,
}

/// All tensors of a checkpoint and the files they lie in.
#[derive(Debug)]
pub struct Catalogue {
    /// The checkpoint: a file or a directory.
    pub path: PathBuf,
    pub files: Vec<TensorFile>,
    /// By name on the hub, for example `model.norm.weight`.
    pub tensors: BTreeMap<String, Stored>,
}

impl Catalogue {
    /// The file a tensor lies in.
    pub fn file(&self, tensor: &Stored) -> &Path {
        &self.files[tensor.file].path
    }

    /// The file and the name there, as messages name a tensor.
    pub fn describe(&self, tensor: &Stored) -> String {
        format!("{}: tensor '{}'", self.file(tensor).display(), tensor.name_in_file)
    }

    /// The bytes of a tensor, rows in the hub's order.
    pub fn read(&self, tensor: &Stored) -> Result<Vec<u8>> {
        let bytes = usize::try_from(tensor.bytes)?;
        let mut data = Vec::new();
        data.try_reserve_exact(bytes)
            .map_err(|_| anyhow!("{}: no memory for its {bytes} bytes", self.describe(tensor)))?;
        data.resize(bytes, 0);
        self.files[tensor.file]
            .file
            .read_exact_at(&mut data, tensor.offset)
            .with_context(|| format!("{}: reading failed", self.describe(tensor)))?;
        match tensor.interleaved_heads {
            None => Ok(data),
            Some(heads) => self.undo_interleaving(tensor, &data, heads),
        }
    }

    /// GGUF stores the query and key rows of the llama architecture so that the two halves of each head alternate
    /// (row `2i + j` holds row `j * half + i`); this puts them back.
    fn undo_interleaving(&self, tensor: &Stored, data: &[u8], heads: usize) -> Result<Vec<u8>> {
        let rows = tensor.shape[0] as usize;
        if heads == 0 || !rows.is_multiple_of(2 * heads) {
            bail!("{}: {rows} rows cannot be {heads} heads of even size", self.describe(tensor));
        }
        let row_bytes = data.len() / rows;
        let half = rows / heads / 2;
        let mut ordered = Vec::with_capacity(data.len());
        for head in data.chunks_exact(2 * half * row_bytes) {
            for row in (0..half).map(|i| 2 * i).chain((0..half).map(|i| 2 * i + 1)) {
                ordered.extend_from_slice(&head[row * row_bytes..][..row_bytes]);
            }
        }
        Ok(ordered)
    }
}

/// Dimensions as MLX has them: each from 1 to 2³¹ - 1.
pub fn dimensions(sizes: impl Iterator<Item = u64>) -> Result<Vec<i32>> {
    sizes
        .map(|size| i32::try_from(size).ok().filter(|size| *size > 0))
        .collect::<Option<_>>()
        .ok_or_else(|| anyhow!("a dimension is not from 1 to {}", i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interleaved_rows_go_back_to_halves() {
        let catalogue = Catalogue {
            path: "a.gguf".into(),
            files: vec![TensorFile { path: "a.gguf".into(), file: tempfile::tempfile().unwrap() }],
            tensors: BTreeMap::new(),
        };
        let tensor = |rows| Stored {
            file: 0,
            name_in_file: "q".into(),
            encoding: Encoding::Q8_0,
            shape: vec![rows, 1],
            offset: 0,
            bytes: 24,
            interleaved_heads: Some(2),
        };
        // Two heads of 6 rows of 2 bytes. Row r of a head is stored at 2r, or 2(r - 3) + 1 in the second half.
        let stored: Vec<u8> =
            [0, 3, 1, 4, 2, 5, 10, 13, 11, 14, 12, 15].iter().flat_map(|row| [*row, row + 100]).collect();
        let wanted: Vec<u8> =
            [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15].iter().flat_map(|row| [*row, row + 100]).collect();
        assert_eq!(catalogue.undo_interleaving(&tensor(12), &stored, 2).unwrap(), wanted);
        let error = catalogue.undo_interleaving(&tensor(10), &stored[..20], 2).unwrap_err();
        assert_eq!(error.to_string(), "a.gguf: tensor 'q': 10 rows cannot be 2 heads of even size");
    }
}
