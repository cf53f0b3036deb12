//! The KV cache: one preallocated buffer a layer for keys and one for values, and one length for all.
//!
//! Rolling back is setting the length: what lies beyond it is overwritten by the next tokens. Nothing is copied.

use anyhow::Result;
use mlx_rs::ops::indexing::{TryIndexMutOp, TryIndexOp};
use mlx_rs::ops::{broadcast_to, concatenate, zeros_dtype};
use mlx_rs::transforms::eval;
use mlx_rs::{Array, Dtype};

/// Buffers grow by this many tokens at a time.
const STEP: i32 = 256;

/// The buffers of one layer.
#[derive(Debug)]
pub struct Layer {
    /// `[batch, kv_heads, capacity, head_dim]`
    pub keys: Array,
    /// `[batch, kv_heads, capacity, head_dim]`
    pub values: Array,
    /// The result of the last operation that wrote to the buffers in place, if one did: evaluating it fills them.
    pub written: Option<Array>,
    /// What operations that write in place count with, if they want anything.
    pub turns: Option<Array>,
}

/// Keys and values of the tokens that a model has read. It cannot be cloned, as the clone would share the buffers: see
/// [`KvCache::copied`].
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<Option<Layer>>,
    len: i32,
    capacity: i32,
}

impl KvCache {
    /// An empty cache for a model of `layers` layers.
    pub fn new(layers: usize) -> Self {
        KvCache { layers: (0..layers).map(|_| None).collect(), len: 0, capacity: 0 }
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

    /// A copy in buffers of its own, with room for `tokens` tokens in all.
    pub fn copied(&self, tokens: i32) -> Result<KvCache> {
        self.repeated(self.len, 1, tokens)
    }

    /// A copy of the first `len` tokens for each of `batch` sequences, in buffers of its own with room for `tokens` tokens in
    /// all. More than one are made of a single one.
    pub fn repeated(&self, len: i32, batch: i32, tokens: i32) -> Result<KvCache> {
        assert!((0..=self.len).contains(&len), "a cache of {} tokens has no first {len}", self.len);
        let mut copy = KvCache { len, ..KvCache::new(self.layers.len()) };
        // At least one more, so that nothing is shared.
        copy.reserve(tokens.max(len + 1));
        for (layer, copied) in self.layers.iter().zip(&mut copy.layers) {
            let Some(layer) = layer else { continue };
            // What is still to be written must be there before it is copied.
            eval(&layer.written)?;
            let held = |array: &Array| {
                let held = array.try_index((.., .., ..len, ..))?;
                if batch == 1 {
                    return grow(&held, copy.capacity);
                }
                grow(&broadcast_to(&held, &[batch, held.dim(1), held.dim(2), held.dim(3)])?, copy.capacity)
            };
            *copied =
                Some(Layer { keys: held(&layer.keys)?, values: held(&layer.values)?, written: None, turns: None });
        }
        eval(copy.arrays())?;
        Ok(copy)
    }

    /// Goes on with the sequences `rows` (`[n]` uint32) of the batch alone.
    pub fn keep_rows(&mut self, rows: &Array) -> Result<()> {
        for layer in self.layers.iter_mut().flatten() {
            // What is still to be written must be there before it is copied.
            eval(&layer.written)?;
            layer.keys = layer.keys.take_axis(rows, 0)?;
            layer.values = layer.values.take_axis(rows, 0)?;
            layer.written = None;
            // Layer by layer, so that only one lies in memory twice.
            eval([&layer.keys, &layer.values])?;
        }
        Ok(())
    }

    /// Counts `tokens` that every layer has stored.
    pub fn advance(&mut self, tokens: i32) {
        self.len += tokens;
    }

    /// Stores `keys` and `values` (`[batch, kv_heads, b, head_dim]`) of layer `index` behind the tokens held and
    /// returns those of all tokens, `[batch, kv_heads, len + b, head_dim]`.
    pub fn update(&mut self, index: usize, keys: &Array, values: &Array) -> Result<(Array, Array)> {
        let (start, end) = (self.len, self.len + keys.dim(2));
        let layer = self.layer(index, keys.dim(2), &[keys.dim(0), keys.dim(1), keys.dim(3)], keys.dtype())?;
        // MLX knows of no operation that wrote in place, so that one must be done.
        eval(&layer.written.take())?;
        layer.keys.try_index_mut((.., .., start..end, ..), keys)?;
        layer.values.try_index_mut((.., .., start..end, ..), values)?;
        Ok((layer.keys.try_index((.., .., ..end, ..))?, layer.values.try_index((.., .., ..end, ..))?))
    }

    /// The buffers of layer `index` with room for `width` tokens behind those held; new ones of
    /// `[batch, kv_heads, head_dim]` if there are none yet.
    pub fn layer(&mut self, index: usize, width: i32, sizes: &[i32; 3], dtype: Dtype) -> Result<&mut Layer> {
        self.reserve(self.len + width);
        let capacity = self.capacity;
        let layer = match self.layers[index].take() {
            Some(layer) => layer.grown(capacity)?,
            None => {
                let (keys, values) = (buffer(sizes, capacity, dtype)?, buffer(sizes, capacity, dtype)?);
                Layer { keys, values, written: None, turns: None }
            }
        };
        Ok(self.layers[index].insert(layer))
    }

    /// What must be evaluated for all tokens to be there.
    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.layers.iter().flatten().flat_map(|layer| [&layer.keys, &layer.values].into_iter().chain(&layer.written))
    }

    /// Bytes of the buffers.
    pub fn nbytes(&self) -> usize {
        self.layers.iter().flatten().map(|layer| layer.keys.nbytes() + layer.values.nbytes()).sum()
    }
}

fn buffer(&[batch, kv_heads, head_dim]: &[i32; 3], capacity: i32, dtype: Dtype) -> Result<Array> {
    Ok(zeros_dtype(&[batch, kv_heads, capacity, head_dim], dtype)?)
}

impl Layer {
    /// The same with buffers of at least `capacity` tokens.
    fn grown(self, capacity: i32) -> Result<Layer> {
        if self.keys.dim(2) >= capacity {
            return Ok(self);
        }
        // What is still to be written must be there before it is copied.
        eval(&self.written)?;
        Ok(Layer { keys: grow(&self.keys, capacity)?, values: grow(&self.values, capacity)?, written: None, ..self })
    }
}

fn grow(array: &Array, capacity: i32) -> Result<Array> {
    let more = buffer(&[array.dim(0), array.dim(1), array.dim(3)], capacity - array.dim(2), array.dtype())?;
    Ok(concatenate(&[array, &more], 2)?)
}
