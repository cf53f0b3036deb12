//! Machines by name: `scenarios/machines/NAME.toml` holds what a data sheet says, to be shown beside what is measured.

use super::precision::Dtype;
use super::toml_file::{self, field_error};
use crate::usage;
use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Where files of named machines lie, below a checkout.
const FOLDER: &str = "scenarios/machines";

/// What a data sheet says of a machine; what it does not say is missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineFile {
    /// The file's name without `.toml`.
    pub name: String,
    /// The machine's full name.
    pub description: String,
    /// Whose sheet it is.
    pub source: String,
    /// Memory bandwidth, 10^9 bytes a second.
    pub bandwidth_gb_s: Option<f64>,
    /// Rate of dense matrix products by the type of their factors, 10^12 floating-point operations a second.
    pub matrix_tflop_s: BTreeMap<String, f64>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Fields {
    /// The machine's full name.
    description: String,
    /// Whose sheet it is.
    source: String,
    /// Memory bandwidth, 10^9 bytes a second; left out where the sheet does not say.
    #[schemars(extend("exclusiveMinimum" = 0))]
    bandwidth_gb_s: Option<f64>,
    /// Rate of dense matrix products by the type of their factors, 10^12 floating-point operations a second.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "enum": ["float32", "float16", "bfloat16"] },
                      "additionalProperties" = { "type": "number", "exclusiveMinimum": 0 }))]
    matrix_tflop_s: BTreeMap<String, f64>,
}

pub(super) fn json_schema() -> schemars::Schema {
    schemars::schema_for!(Fields)
}

impl MachineFile {
    /// The file of `name` in `scenarios/machines` of `folder` or of a folder above it, if there is one.
    pub fn find(folder: &Path, name: &str) -> Result<Option<MachineFile>> {
        if !super::is_file_name(name) {
            return Ok(None);
        }
        let file = format!("{FOLDER}/{name}.toml");
        let found = folder.ancestors().map(|folder| folder.join(&file)).find(|path| path.is_file());
        found.map(|path| MachineFile::read(&path)).transpose()
    }

    /// The file at a path, or that of a name; a usage error that names `flag` if there is neither.
    pub fn named(folder: &Path, flag: &str, spec: &str) -> Result<MachineFile> {
        if Path::new(spec).is_file() {
            return MachineFile::read(Path::new(spec));
        }
        MachineFile::find(folder, spec)?.ok_or_else(|| {
            usage!("{flag} '{spec}': there is no {FOLDER}/{spec}.toml; name one of that folder, or a file")
        })
    }

    /// Reads one file.
    pub fn read(path: &Path) -> Result<MachineFile> {
        let fields: Fields = toml_file::parse(path, &toml_file::read_text(path, "machine file")?)?;
        let Fields { description, source, bandwidth_gb_s, matrix_tflop_s } = fields;
        let positive = |value: f64| value > 0.0 && value.is_finite();
        if let Some(value) = bandwidth_gb_s.filter(|value| !positive(*value)) {
            return Err(field_error(
                path,
                "bandwidth_gb_s",
                format!("must be above 0, got {value}; omit what is not known"),
            ));
        }
        for (dtype, value) in &matrix_tflop_s {
            let field = format!("matrix_tflop_s.{dtype}");
            dtype.parse::<Dtype>().map_err(|message| field_error(path, &field, message))?;
            if !positive(*value) {
                return Err(field_error(path, &field, format!("must be above 0, got {value}; omit what is not known")));
            }
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(MachineFile { name, description, source, bandwidth_gb_s, matrix_tflop_s })
    }

    /// Bytes a second, where the sheet says.
    pub fn bandwidth_bytes_per_s(&self) -> Option<f64> {
        self.bandwidth_gb_s.map(|bandwidth| 1e9 * bandwidth)
    }

    /// Floating-point operations a second of products in the type that a precision's last word names (`4-bit:64 bfloat16`).
    pub fn matrix_flops_per_s(&self, precision: &str) -> Option<f64> {
        let dtype = precision.split_whitespace().last()?;
        self.matrix_tflop_s.get(dtype).map(|rate| 1e12 * rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<MachineFile> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.toml");
        std::fs::write(&path, text).unwrap();
        MachineFile::read(&path)
    }

    #[test]
    fn what_a_sheet_does_not_say_is_missing() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let h100 = MachineFile::named(&folder, "--spec", "h100").unwrap();
        assert_eq!(h100.bandwidth_bytes_per_s(), Some(3.35e12));
        assert_eq!(h100.matrix_flops_per_s("4-bit:64 bfloat16"), Some(989.5e12));
        assert_eq!(h100.matrix_flops_per_s("float32"), Some(67e12));
        let apple = MachineFile::named(&folder, "--spec", "m3-ultra").unwrap();
        assert_eq!((apple.bandwidth_bytes_per_s(), apple.matrix_flops_per_s("float16")), (Some(819e9), None));
        assert_eq!(MachineFile::find(&folder, "linux-cpu-2core").unwrap(), None);
    }

    #[test]
    fn bad_files_are_refused_with_the_field() {
        let sheet = "description = \"d\"\nsource = \"s\"\n";
        for (text, expected) in [
            ("", "m.toml: line 1: missing field `description`"),
            ("bandwidth_gb_s = -1.0", "m.toml: bandwidth_gb_s: must be above 0, got -1"),
            ("bandwidth = 1.0", "unknown field `bandwidth`"),
            ("[matrix_tflop_s]\nfp16 = 1.0", "m.toml: matrix_tflop_s.fp16: 'fp16' is no dtype"),
            ("[matrix_tflop_s]\nfloat16 = 0.0", "m.toml: matrix_tflop_s.float16: must be above 0"),
        ] {
            let text = if text.is_empty() { String::new() } else { format!("{sheet}{text}") };
            let error = read(&text).unwrap_err();
            assert_eq!(crate::error::exit_code(&error), 2);
            assert!(error.to_string().contains(expected), "{error}");
        }
        let error = MachineFile::named(Path::new("."), "--spec", "abacus").unwrap_err().to_string();
        assert!(error.starts_with("--spec 'abacus': there is no scenarios/machines/abacus.toml"), "{error}");
    }
}
