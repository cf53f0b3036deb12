//! The KV cache: one preallocated buffer a layer for keys and one for values, and one length for all.
//!
//! Rolling back is setting the length: what lies beyond it is overwritten by the next tokens. Nothing is copied.

use anyhow::Result;
use mlx_rs::{Array, Dtype};
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
        let [mut all_keys, mut all_values] =
            self.take(index, keys.dim(2), &[keys.dim(0), keys.dim(1), keys.dim(3)], keys.dtype())?;
        all_keys.try_index_mut((.., .., self.len..end, ..), keys)?;
        all_values.try_index_mut((.., .., self.len..end, ..), values)?;
        let read = (all_keys.try_index((.., .., ..end, ..))?, all_values.try_index((.., .., ..end, ..))?);
        self.put(index, [all_keys, all_values]);
        Ok(read)
    }

    /// The buffers of layer `index`, keys and values, with room for `width` tokens behind those held; new ones of
    /// `[batch, kv_heads, head_dim]` if there are none yet. They must be [`put`](Self::put) back.
    pub fn take(&mut self, index: usize, width: i32, sizes: &[i32; 3], dtype: Dtype) -> Result<[Array; 2]> {
        self.reserve(self.len + width);
        let Layer { keys, values } = match self.layers[index].take() {
            Some(layer) => layer,
            None => Layer { keys: buffer(sizes, self.capacity, dtype)?, values: buffer(sizes, self.capacity, dtype)? },
        };
        Ok([grow(keys, self.capacity)?, grow(values, self.capacity)?])
    }

    /// Gives the buffers of layer `index` back.
    pub fn put(&mut self, index: usize, buffers: [Array; 2]) {
        let [keys, values] = buffers;
        self.layers[index] = Some(Layer { keys, values });
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

fn buffer(&[batch, kv_heads, head_dim]: &[i32; 3], capacity: i32, dtype: Dtype) -> Result<Array> {
    Ok(zeros_dtype(&[batch, kv_heads, capacity, head_dim], dtype)?)
}

fn grow(array: Array, capacity: i32) -> Result<Array> {
    let missing = capacity - array.dim(2);
    if missing <= 0 {
        return Ok(array);
    }
    let more = buffer(&[array.dim(0), array.dim(1), array.dim(3)], missing, array.dtype())?;
    Ok(concatenate(&[array, more], 2)?)
}
