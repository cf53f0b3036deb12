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

/// Rearranges whole blocks. A scale that is not finite, or whose bias is not, is an error.
pub fn pack(encoding: Encoding, blocks: &[u8]) -> Result<Packed> {
    // The last is the largest float16 magnitude whose product with the bias factor is finite.
    let (bits, head_bytes, factor, largest) = match encoding {
        Encoding::Q4_0 => (4, 2, Some(-8.0), 0x6fff),
        Encoding::Q4_1 => (4, 4, None, 0x7bff),
        Encoding::Q8_0 => (8, 2, Some(-128.0), 0x5fff),
        other => bail!("{other:?} has no blocks"),
    };
    let block_bytes = head_bytes + 4 * bits as usize;
    let count = blocks.len() / block_bytes;
    let mut words = Vec::with_capacity(count * bits as usize);
    let mut scales = Vec::with_capacity(count);
    let mut minima = Vec::with_capacity(if factor.is_none() { count } else { 0 });
    let half = |value: &[u8]| {
        let pattern = u16::from_le_bytes([value[0], value[1]]);
        if pattern & 0x7fff > largest {
            bail!("a block's scale is not finite; the file is damaged")
        }
        Ok(pattern)
    };
    for block in blocks.chunks_exact(block_bytes) {
        let (head, values) = block.split_at(head_bytes);
        scales.push(half(head)?);
        if factor.is_none() {
            minima.push(half(&head[2..])?);
        }
        if bits == 4 { pack_nibbles(values, &mut words) } else { pack_bytes(values, &mut words) }
    }
    let biases = factor.map_or(Biases::Stored(minima), Biases::Scales);
    Ok(Packed { bits, words, scales, biases })
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
