//! Quantised GGUF blocks, rearranged into MLX's affine quantisation with groups of 32.
//!
//! Both formats store `scale * q + bias`; they differ in where the bits lie. A 4-bit block has value i in the low half
//! of byte i and value i + 16 in the high half; MLX has neighbours in one byte. Nothing is rounded.

use crate::model::stored::Encoding;
use anyhow::{Result, bail};

/// Values that share a scale.
pub const GROUP_SIZE: i32 = 32;

/// A tensor in MLX's arrangement.
#[derive(Debug, PartialEq)]
pub struct Packed {
    pub bits: i32,
    /// `32 / bits` values in each word, the first in the lowest bits.
    pub words: Vec<u32>,
    /// One float16 bit pattern for each group.
    pub scales: Vec<u16>,
    pub biases: Biases,
}

/// What is added to `scale * q` in each group.
#[derive(Debug, PartialEq)]
pub enum Biases {
    /// One float16 bit pattern for each group.
    Stored(Vec<u16>),
    /// So many scales.
    Scales(f32),
}

/// How the blocks of one encoding are laid out.
struct Layout {
    bits: i32,
    /// Bytes before the packed values: the scale, and the minimum if there is one.
    head_bytes: usize,
    /// What a scale is multiplied with to give the bias; `None` where the block stores a minimum.
    bias_factor: Option<f32>,
    /// The largest float16 magnitude, as a bit pattern, whose product with the factor is finite.
    largest: u16,
}

impl Layout {
    fn of(encoding: Encoding) -> Result<Self> {
        let (bits, head_bytes, bias_factor, largest) = match encoding {
            Encoding::Q4_0 => (4, 2, Some(-8.0), 0x6fff),
            Encoding::Q4_1 => (4, 4, None, 0x7bff),
            Encoding::Q8_0 => (8, 2, Some(-128.0), 0x5fff),
            other => bail!("{other:?} has no blocks"),
        };
        Ok(Layout { bits, head_bytes, bias_factor, largest })
    }

    fn blocks<'a>(&self, bytes: &'a [u8]) -> std::slice::ChunksExact<'a, u8> {
        bytes.chunks_exact(self.head_bytes + GROUP_SIZE as usize * self.bits as usize / 8)
    }

    /// The scale, and the minimum if there is one. One that is not finite, or whose bias is not, is an error.
    fn head(&self, block: &[u8]) -> Result<(u16, Option<u16>)> {
        let half = |at: usize| {
            let pattern = u16::from_le_bytes([block[at], block[at + 1]]);
            if pattern & 0x7fff > self.largest {
                bail!("a block's scale is not finite; the file is damaged");
            }
            Ok(pattern)
        };
        Ok((half(0)?, if self.bias_factor.is_none() { Some(half(2)?) } else { None }))
    }
}

/// Rearranges whole blocks into MLX's form.
pub fn pack(encoding: Encoding, bytes: &[u8]) -> Result<Packed> {
    let layout = Layout::of(encoding)?;
    let blocks = layout.blocks(bytes);
    let mut words = Vec::with_capacity(blocks.len() * layout.bits as usize);
    let mut scales = Vec::with_capacity(blocks.len());
    let mut minima = Vec::new();
    for block in blocks {
        let (scale, minimum) = layout.head(block)?;
        scales.push(scale);
        minima.extend(minimum);
        let values = &block[layout.head_bytes..];
        if layout.bits == 4 { pack_nibbles(values, &mut words) } else { pack_bytes(values, &mut words) }
    }
    let biases = layout.bias_factor.map_or(Biases::Stored(minima), Biases::Scales);
    Ok(Packed { bits: layout.bits, words, scales, biases })
}

/// The values of whole blocks. Products are exact in float32, so each value is rounded at most once.
pub fn unpack(encoding: Encoding, bytes: &[u8]) -> Result<Vec<f32>> {
    let layout = Layout::of(encoding)?;
    let blocks = layout.blocks(bytes);
    let mut values = vec![0.0f32; blocks.len() * GROUP_SIZE as usize];
    for (block, values) in blocks.zip(values.chunks_exact_mut(GROUP_SIZE as usize)) {
        let (scale, minimum) = layout.head(block)?;
        let scale = widen(scale);
        let bias = layout.bias_factor.map_or_else(|| widen(minimum.unwrap_or(0)), |factor| factor * scale);
        let packed = &block[layout.head_bytes..];
        if layout.bits == 4 {
            let (low, high) = values.split_at_mut(packed.len());
            for ((low, high), byte) in low.iter_mut().zip(high).zip(packed) {
                *low = scale * f32::from(byte & 0x0f) + bias;
                *high = scale * f32::from(byte >> 4) + bias;
            }
        } else {
            for (value, byte) in values.iter_mut().zip(packed) {
                *value = scale * f32::from(byte ^ 0x80) + bias;
            }
        }
    }
    Ok(values)
}

/// A finite float16 as float32: its bits lie 13 places higher, and the exponent counts from 127 in place of 15.
fn widen(half: u16) -> f32 {
    let magnitude = f32::from_bits(u32::from(half & 0x7fff) << 13) * f32::from_bits((127 + 127 - 15) << 23);
    if half & 0x8000 == 0 { magnitude } else { -magnitude }
}

fn pack_nibbles(values: &[u8], words: &mut Vec<u32>) {
    const LOW: u128 = u128::from_ne_bytes([0x0f; 16]);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(values);
    let pairs = u128::from_le_bytes(bytes);
    for half in [gather_nibbles(pairs & LOW), gather_nibbles(pairs >> 4 & LOW)] {
        words.extend([half as u32, (half >> 32) as u32]);
    }
}

/// The low halves of 16 bytes (whose high halves are 0), side by side.
fn gather_nibbles(mut x: u128) -> u64 {
    const fn lanes(bits: u32) -> u128 {
        u128::MAX / ((1 << bits) + 1)
    }
    x = (x | x >> 4) & lanes(8);
    x = (x | x >> 8) & lanes(16);
    x = (x | x >> 16) & lanes(32);
    (x | x >> 32) as u64
}

/// Signed bytes become unsigned ones; the bias of -128 scales makes up for it.
fn pack_bytes(values: &[u8], words: &mut Vec<u32>) {
    words.extend(values.as_chunks().0.iter().map(|four| u32::from_le_bytes(*four) ^ 0x8080_8080));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn float16_is_widened_exactly() {
        let cases = [
            (0x0000, 0.0),
            (0x0001, 2f32.powi(-24)),
            (0x03ff, 1023.0 * 2f32.powi(-24)),
            (0x0400, 2f32.powi(-14)),
            (0x3c00, 1.0),
            (0xbe00, -1.5),
            (0x3555, 0.333_251_95),
            (0x7bff, 65504.0),
        ];
        for (half, expected) in cases {
            assert_eq!(widen(half), expected, "{half:#06x}");
        }
    }

    #[test]
    fn scales_whose_bias_overflows_are_refused() {
        // The largest scales that are possible: 8 and 128 times them is 65504.
        for (encoding, largest, bytes) in
            [(Encoding::Q4_0, 0x6fffu16, 18), (Encoding::Q8_0, 0x5fff, 34), (Encoding::Q4_1, 0x7bff, 20)]
        {
            let block = |scale: u16| [&scale.to_le_bytes()[..], &vec![0; bytes - 2]].concat();
            for sign in [0, 0x8000] {
                let packed = pack(encoding, &block(largest | sign)).unwrap();
                let bias = match packed.biases {
                    Biases::Scales(factor) => factor * widen(packed.scales[0]),
                    Biases::Stored(_) => widen(packed.scales[0]),
                };
                assert_eq!(bias.abs(), 65504.0);
                assert!(pack(encoding, &block((largest + 1) | sign)).is_err());
                assert!(unpack(encoding, &block((largest + 1) | sign)).is_err());
            }
        }
    }
}
