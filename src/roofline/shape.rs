//! Bytes and floating-point operations of one forward of a decoder with grouped-query attention and a gated MLP.

use serde::{Deserialize, Serialize};

/// How a weight matrix is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum WeightFormat {
    /// Plain floating point.
    Float { bytes: u64 },
    /// `bits` a weight and, for each `group_size` weights, a scale and a bias of `scale_bytes` each.
    Affine { bits: u64, group_size: u64, scale_bytes: u64 },
}

impl WeightFormat {
    /// Bytes of a matrix of `weights` elements, scales and biases included.
    pub fn bytes(self, weights: u64) -> u64 {
        match self {
            WeightFormat::Float { bytes } => weights * bytes,
            WeightFormat::Affine { bits, group_size, scale_bytes } => {
                (weights * bits).div_ceil(8) + weights.div_ceil(group_size) * 2 * scale_bytes
            }
        }
    }
}

/// The sizes of a dense decoder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelShape {
    pub layers: u64,
    pub hidden: u64,
    pub intermediate: u64,
    pub heads: u64,
    pub kv_heads: u64,
    pub head_dim: u64,
    pub vocab: u64,
    /// How the matrices of the layers are stored.
    pub weights: WeightFormat,
    /// How the output head, or the embedding that serves as one, is stored.
    pub head: WeightFormat,
    /// Bytes of an element of the norms, biases and activations.
    pub activation_bytes: u64,
    /// Bytes of an element of the KV cache.
    pub kv_bytes: u64,
}

/// One forward: `width` new tokens of each of `batch` sequences that have `context` tokens in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    pub context: u64,
    pub width: u64,
    pub batch: u64,
}

impl ModelShape {
    /// Weights of the matrices of one layer: query, key, value, output, gate, up and down.
    fn layer_weights(&self) -> u64 {
        let attention = 2 * self.hidden * (self.heads + self.kv_heads) * self.head_dim;
        attention + 3 * self.hidden * self.intermediate
    }

    /// Bytes of the weights that one forward reads: every layer, the head, the norms. The input embedding is left out:
    /// only the rows of the new tokens are read, less than a thousandth of the rest.
    pub fn weight_bytes(&self) -> u64 {
        let layer = self.weights.bytes(self.layer_weights()) + 2 * self.hidden * self.activation_bytes;
        self.layers * layer + self.head.bytes(self.vocab * self.hidden) + self.hidden * self.activation_bytes
    }

    /// Bytes of the keys and values of one token in all layers.
    pub fn kv_bytes_per_token(&self) -> u64 {
        2 * self.layers * self.kv_heads * self.head_dim * self.kv_bytes
    }

    /// Bytes that a forward must move between memory and chip: the weights once, the cache of every sequence once, the
    /// new keys and values. Activations and logits are left out, as a good kernel keeps them on the chip: this is a
    /// lower bound, so a time that implies more than the machine's bandwidth cannot be right.
    pub fn bytes(&self, forward: Forward) -> u64 {
        let cache = forward.batch * (forward.context + forward.width) * self.kv_bytes_per_token();
        self.weight_bytes() + cache
    }

    /// Floating-point operations of a forward, a multiply-add as two: the matrices for every new token, and scores and
    /// weighted sums over the tokens before it and itself. Norms, rotations and softmax are left out.
    pub fn flops(&self, forward: Forward) -> u64 {
        let Forward { context, width, batch } = forward;
        let matrices = 2 * (self.layers * self.layer_weights() + self.vocab * self.hidden) * width;
        let pairs = width * context + width * (width + 1) / 2;
        let attention = 4 * self.layers * self.heads * self.head_dim * pairs;
        batch * (matrices + attention)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One layer, all sizes different and small, so that every term can be worked out by hand.
    fn tiny() -> ModelShape {
        ModelShape {
            layers: 1,
            hidden: 4,
            intermediate: 6,
            heads: 2,
            kv_heads: 1,
            head_dim: 3,
            vocab: 10,
            weights: WeightFormat::Float { bytes: 4 },
            head: WeightFormat::Float { bytes: 4 },
            activation_bytes: 4,
            kv_bytes: 4,
        }
    }

    #[test]
    fn bytes_by_hand() {
        // q 4x6, k 4x3, v 4x3, o 6x4: 72; gate, up, down 3x24: 72; head 40; norms 3x4.
        assert_eq!(tiny().weight_bytes(), 4 * (72 + 72 + 40 + 12));
        // A key and a value of 3 floats a token; 5 in the cache and 2 new ones, for 3 sequences.
        assert_eq!(tiny().bytes(Forward { context: 5, width: 2, batch: 3 }), 4 * 196 + 3 * 7 * 24);
    }

    #[test]
    fn flops_by_hand() {
        // 144 + 40 multiply-adds a token; token 1 sees 6, token 2 sees 7: 13 pairs, each 2 heads x 3 x (score + sum).
        assert_eq!(tiny().flops(Forward { context: 5, width: 2, batch: 1 }), 2 * 184 * 2 + 13 * 2 * 3 * 2 * 2);
        assert_eq!(tiny().flops(Forward { context: 5, width: 2, batch: 3 }), 3 * (736 + 312));
    }

    #[test]
    fn quantised_weights_carry_their_scales() {
        // 4 bits and two 2-byte numbers for 64 weights: 4.5 bits a weight.
        let format = WeightFormat::Affine { bits: 4, group_size: 64, scale_bytes: 2 };
        assert_eq!(format.bytes(1024), 1024 * 9 / 16);
        let format = WeightFormat::Affine { bits: 8, group_size: 32, scale_bytes: 4 };
        assert_eq!(format.bytes(64), 64 + 2 * 8);
    }

    /// SmolLM2-135M has 134,515,008 parameters (its model card's 135M; the count is that of its safetensors file).
    #[test]
    fn smollm2_has_its_known_number_of_parameters() {
        let shape = ModelShape {
            layers: 30,
            hidden: 576,
            intermediate: 1536,
            heads: 9,
            kv_heads: 3,
            head_dim: 64,
            vocab: 49152,
            ..tiny()
        };
        assert_eq!(shape.weight_bytes() / 4, 134_515_008);
    }
}
