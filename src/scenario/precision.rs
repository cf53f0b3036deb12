//! In what numbers a model's weights are held.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// The floating-point type of activations and of weights that are not quantised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    Float32,
    Float16,
    Bfloat16,
}

impl Dtype {
    pub fn bytes(self) -> usize {
        match self {
            Dtype::Float32 => 4,
            Dtype::Float16 | Dtype::Bfloat16 => 2,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dtype::Float32 => "float32",
            Dtype::Float16 => "float16",
            Dtype::Bfloat16 => "bfloat16",
        })
    }
}

impl FromStr for Dtype {
    type Err = String;

    fn from_str(text: &str) -> Result<Dtype, String> {
        [Dtype::Float32, Dtype::Float16, Dtype::Bfloat16]
            .into_iter()
            .find(|dtype| dtype.to_string() == text)
            .ok_or_else(|| format!("'{text}' is no dtype; write float32, float16 or bfloat16"))
    }
}

/// How weight matrices are quantised: MLX's affine mode with `bits` a weight, and a scale and a bias for each
/// `group_size` weights of a row. Signed, as MLX takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quantization {
    pub bits: i32,
    pub group_size: i32,
}

impl Quantization {
    pub const BITS: [i32; 6] = [2, 3, 4, 5, 6, 8];
    pub const GROUP_SIZES: [i32; 3] = [32, 64, 128];
    pub const DEFAULT_GROUP_SIZE: i32 = 64;

    /// Refuses what MLX has no kernels for.
    pub fn new(bits: i32, group_size: i32) -> Result<Quantization, String> {
        if !Self::BITS.contains(&bits) {
            return Err(format!("{bits} bits a weight are not supported; choose 2, 3, 4, 5, 6 or 8"));
        }
        if !Self::GROUP_SIZES.contains(&group_size) {
            return Err(format!("groups of {group_size} are not supported; choose 32, 64 or 128"));
        }
        Ok(Quantization { bits, group_size })
    }
}

impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.bits, self.group_size)
    }
}

impl FromStr for Quantization {
    type Err = String;

    /// Reads `bits` or `bits:group_size`.
    fn from_str(text: &str) -> Result<Quantization, String> {
        let number = |part: &str| {
            part.parse().map_err(|_| format!("'{text}' is not a quantisation; write bits or bits:group, such as 4:64"))
        };
        let (bits, group_size) = match text.split_once(':') {
            Some((bits, group_size)) => (number(bits)?, number(group_size)?),
            None => (number(text)?, Self::DEFAULT_GROUP_SIZE),
        };
        Quantization::new(bits, group_size)
    }
}

impl Serialize for Quantization {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantization {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Quantization, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantisations_are_read_and_refused() {
        assert_eq!("4".parse(), Quantization::new(4, 64));
        assert_eq!("8:32".parse(), Quantization::new(8, 32));
        for text in ["", "7", "4:", "4:48", "four", "4:64:1", "-4"] {
            assert!(text.parse::<Quantization>().is_err(), "{text}");
        }
        assert_eq!(Quantization::new(4, 32).unwrap().to_string(), "4:32");
    }

    #[test]
    fn dtypes_are_read_by_their_full_name() {
        assert_eq!("bfloat16".parse(), Ok(Dtype::Bfloat16));
        assert!("f32".parse::<Dtype>().unwrap_err().contains("float32, float16 or bfloat16"));
    }
}
