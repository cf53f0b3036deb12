//! The KV cache: one preallocated buffer a layer for keys and one for values, and one length for all.
//!
//! Rolling back is setting the length: what lies beyond it is overwritten by the next tokens. Nothing is copied.

use anyhow::Result;
use mlx_rs::Array;
use mlx_rs::ops::indexing::{TryIndexMutOp, TryIndexOp};
use mlx_rs::ops::{concatenate, zeros_dtype};

/// Buffers grow by this many tokens at a time.
const STEP: i32 = 256;

#[derive(Debug, Clone)]
struct Layer {
    /// `[batch, kv_heads, capacity, head_dim]`
    keys: Array,
    /// `[batch, kv_heads, capacity, head_dim]`
    values: Array,
}

/// Keys and values of the tokens that a model has read.
#[derive(Debug, Clone)]
pub struct KvCache {
    layers: Vec<Option<Layer>>,
    len: i32,
    capacity: i32,
}

impl KvCache {
    /// An empty cache for a model of `layers` layers.
    pub fn new(layers: usize) -> Self {
        KvCache { layers: vec![None; layers], len: 0, capacity: 0 }
    }

    /// Tokens held.
    pub fn len(&self) -> i32 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes room for `tokens` in all, so that no buffer grows while a run is timed. Takes effect with the next update.
    pub fn reserve(&mut self, tokens: i32) {
        self.capacity = self.capacity.max((tokens + STEP - 1) / STEP * STEP);
    }

    /// Forgets all but the first `len` tokens, in constant time.
    pub fn truncate(&mut self, len: i32) {
        assert!((0..=self.len).contains(&len), "a cache of {} tokens cannot be cut to {len}", self.len);
        self.len = len;
    }

    /// Counts `tokens` that every layer has stored.
    pub fn advance(&mut self, tokens: i32) {
        self.len += tokens;
    }

    /// Stores `keys` and `values` (`[batch, kv_heads, b, head_dim]`) of layer `index` behind the tokens held and
    /// returns those of all tokens, `[batch, kv_heads, len + b, head_dim]`.
    pub fn update(&mut self, index: usize, keys: &Array, values: &Array) -> Result<(Array, Array)> {
        let end = self.len + keys.dim(2);
        self.reserve(end);
        let layer = match self.layers[index].take() {
            Some(layer) => Layer { keys: grow(layer.keys, self.capacity)?, values: grow(layer.values, self.capacity)? },
            None => Layer { keys: buffer(keys, self.capacity)?, values: buffer(values, self.capacity)? },
        };
        let layer = self.layers[index].insert(layer);
        layer.keys.try_index_mut((.., .., self.len..end, ..), keys)?;
        layer.values.try_index_mut((.., .., self.len..end, ..), values)?;
        Ok((layer.keys.try_index((.., .., ..end, ..))?, layer.values.try_index((.., .., ..end, ..))?))
    }

    /// The buffers, for evaluation together with a step's result.
    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.layers.iter().flatten().flat_map(|layer| [&layer.keys, &layer.values])
    }

    /// Bytes of the buffers.
    pub fn nbytes(&self) -> usize {
        self.arrays().map(Array::nbytes).sum()
    }
}

fn buffer(like: &Array, capacity: i32) -> Result<Array> {
    let shape = [like.dim(0), like.dim(1), capacity, like.dim(3)];
    Ok(zeros_dtype(&shape, like.dtype())?)
}

fn grow(array: Array, capacity: i32) -> Result<Array> {
    let missing = capacity - array.dim(2);
    if missing <= 0 {
        return Ok(array);
    }
    let more = buffer(&array, missing)?;
    Ok(concatenate(&[array, more], 2)?)
}
