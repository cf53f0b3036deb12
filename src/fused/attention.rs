//! Attention of new tokens over the cache: head norms, rotary embedding, the cache's update, scores, softmax and values.
//!
//! The context is cut into chunks at fixed places, so that threads can share a long one. Each chunk gives its values weighted
//! by e^(score - its highest score), and the chunks are put together in order (as in Dao et al. 2023, "Flash-Decoding"). A
//! row's result depends on what it sees and on nothing else: a chunk of which it sees nothing adds exactly 0.

use super::host_op::{Output, View, add, parameters};
use super::norm::scale;
use super::vector::{LANES, Loop, exp, total, vectorised};
use crate::blas::{self, Product, Shared};
use anyhow::Result;
use mlx_rs::Array;
use std::cell::RefCell;
use std::ops::Range;

/// Query tokens that are taken together: as many as let a block's scores stay near the core.
const BLOCK: usize = 32;
/// Positions of the context that are taken together.
const CHUNK: usize = 128;
/// Elements of chunks' results that are held at a time, unless one block has more.
const HELD: usize = 1 << 20;
/// Multiplications below which one thread does it all.
const ALONE: usize = 1 << 17;

thread_local! {
    /// Queries and scores of a block, kept from call to call.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    /// What chunks gave.
    static RESULTS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// The sizes of a layer's attention.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Heads {
    queries: i32,
    keys: i32,
    head_dim: i32,
    /// Tokens that the cache held before.
    held: i32,
    /// Of the head norms, where there are any.
    eps: f32,
    normed: bool,
    masked: bool,
}

impl Heads {
    /// Without head norms `eps` means nothing.
    pub fn new(queries: i32, keys: i32, head_dim: i32, held: i32, eps: f32) -> Heads {
        Heads { queries, keys, head_dim, held, eps, normed: false, masked: false }
    }
}

/// Cosines and sines of the rotary angles of `width` tokens from `position` on, `[width, head_dim]`: the cosines of a
/// token, then its sines. `frequencies` are radians a position.
#[derive(Debug)]
pub struct Rotation(pub Array);

impl Rotation {
    pub fn new(frequencies: &[f32], position: i32, width: i32) -> Rotation {
        let mut table = Vec::with_capacity(2 * frequencies.len() * width as usize);
        for at in position..position + width {
            let angles = frequencies.iter().map(|frequency| f64::from(at as f32 * frequency));
            table.extend(angles.clone().map(|angle| angle.cos() as f32));
            table.extend(angles.map(|angle| angle.sin() as f32));
        }
        Rotation(Array::from_slice(&table, &[width, 2 * frequencies.len() as i32]))
    }
}

/// The buffers that a layer's keys and values lie in, `[batch, keys, capacity, head_dim]`, and the operation that wrote
/// to them last, which the next one must follow.
#[derive(Debug, Clone, Copy)]
pub struct Buffers<'a> {
    pub keys: &'a Array,
    pub values: &'a Array,
    pub written: Option<&'a Array>,
}

/// Attention of `qkv` (`[batch, b, (queries + 2 keys) · head_dim]`) over the cache, causal unless a `mask`
/// (`[b, held + b]` bool) says otherwise. `norms` are the weights of the query and key norms. Gives
/// `[batch, b, queries · head_dim]`. Lazy; when it is computed, the new keys and values are written to the buffers
/// behind the tokens held, in place: MLX would copy a buffer that an earlier operation still holds.
pub fn attention(
    qkv: &Array,
    buffers: Buffers,
    heads: Heads,
    rotation: &Rotation,
    norms: Option<[&Array; 2]>,
    mask: Option<&Array>,
) -> Result<Array> {
    let mut inputs = vec![qkv, buffers.keys, buffers.values, &rotation.0];
    inputs.extend(norms.into_iter().flatten());
    inputs.extend(mask);
    inputs.extend(buffers.written);
    let heads = Heads { normed: norms.is_some(), masked: mask.is_some(), ..heads };
    let y = Output::new(&[qkv.dim(0), qkv.dim(1), heads.queries * heads.head_dim]);
    let [y] = add(&inputs, [y], kernel, heads)?;
    Ok(y)
}

unsafe extern "C" fn kernel(inputs: *const View, outputs: *const View, block: *const u8) {
    // SAFETY: what `attention` gave.
    let heads: Heads = unsafe { parameters(block) };
    let input = |place: usize| unsafe { &*inputs.add(place) };
    let qkv = input(0);
    let call = Call {
        qkv,
        rotation: input(3),
        norms: heads.normed.then(|| [input(4), input(5)]),
        mask: heads.masked.then(|| input(if heads.normed { 6 } else { 4 })),
        y: unsafe { &*outputs },
        keys: input(1),
        values: input(2),
        width: qkv.size(2),
        held: heads.held as usize,
        group: (heads.queries / heads.keys) as usize,
        kv_heads: heads.keys as usize,
        head_dim: heads.head_dim as usize,
        eps: heads.eps,
    };
    let caches = qkv.size(1) * call.kv_heads;
    let rows = qkv.size(1) * call.width * call.group * call.kv_heads;
    let alone = rows * (call.held + call.width) * call.head_dim < ALONE;
    let share = |parts: usize, work: &(dyn Fn(usize) + Sync)| {
        if alone { (0..parts).for_each(work) } else { blas::share(parts, work) }
    };
    // SAFETY: each part stores into a cache head of its own.
    share(caches, &|part| unsafe { call.store(part / call.kv_heads, part % call.kv_heads) });
    let chunks = (call.held + call.width).div_ceil(CHUNK);
    let of_chunk = call.group * call.width.min(BLOCK) * (call.head_dim + 2);
    let blocks: Vec<(usize, usize)> =
        (0..caches).flat_map(|cache| (0..call.width).step_by(BLOCK).map(move |first| (cache, first))).collect();
    RESULTS.with_borrow_mut(|results| {
        for blocks in blocks.chunks((HELD / (chunks * of_chunk)).max(1)) {
            results.resize((blocks.len() * chunks * of_chunk).max(results.len()), 0.0);
            let results = Shared(results.as_mut_ptr());
            let of = |block: usize, chunk: usize| results.pointer().wrapping_add((block * chunks + chunk) * of_chunk);
            // SAFETY: each part writes the results of a chunk of its own, and then the rows of a block of its own.
            share(blocks.len() * chunks, &|part| unsafe {
                let (block, chunk) = (part / chunks, part % chunks);
                call.attend(blocks[block], chunk * CHUNK, of(block, chunk));
            });
            share(blocks.len(), &|block| unsafe { call.combine(blocks[block], of(block, 0), of_chunk) });
        }
    });
}

struct Call<'a> {
    /// `[1, batch, b, (queries + 2 keys) · head_dim]`
    qkv: &'a View,
    rotation: &'a View,
    norms: Option<[&'a View; 2]>,
    mask: Option<&'a View>,
    y: &'a View,
    keys: &'a View,
    values: &'a View,
    /// b
    width: usize,
    held: usize,
    /// Query heads that share a key head.
    group: usize,
    kv_heads: usize,
    head_dim: usize,
    eps: f32,
}

impl Call<'_> {
    /// Puts the new tokens' keys and values of one head into the cache.
    unsafe fn store(&self, batch: usize, head: usize) {
        let size = self.head_dim;
        for token in 0..self.width {
            let at = batch * self.keys.stride(0) + head * self.keys.stride(1) + (self.held + token) * size;
            unsafe {
                let queries = self.group * self.kv_heads;
                let key = self.head(batch, token, queries + head);
                self.rotate(key, token, 1, 1.0, self.keys.write(at, size));
                self.values.write(at, size).copy_from_slice(self.head(batch, token, queries + self.kv_heads + head));
            }
        }
    }

    /// One head of one new token: queries, then keys, then values.
    unsafe fn head(&self, batch: usize, token: usize, head: usize) -> &[f32] {
        unsafe { self.qkv.read(self.qkv.row(batch * self.width + token) + head * self.head_dim, self.head_dim) }
    }

    /// Head norm number `norm` if there are norms, rotary embedding, and a factor.
    unsafe fn rotate(&self, x: &[f32], token: usize, norm: usize, factor: f32, to: &mut [f32]) {
        let size = self.head_dim;
        unsafe {
            let norm = self.norms.map(|norms| (norms[norm].read(0, size), self.eps));
            vectorised(Rotate { x, turn: self.rotation.read(token * size, size), norm, factor, to });
        }
    }

    /// What up to [`BLOCK`] tokens from a block's first on, for the query heads of one key head, have of the chunk of the context
    /// that begins at `start`: `results` gets for each row its weighted values, their highest score and the weights' sum.
    unsafe fn attend(&self, (cache, first): (usize, usize), start: usize, results: *mut f32) {
        let (size, step) = (self.head_dim, self.head_dim + 2);
        let (batch, head) = (cache / self.kv_heads, cache % self.kv_heads);
        let tokens = first..self.width.min(first + BLOCK);
        let end = self.end(&tokens).min(start + CHUNK);
        let Some(seen) = end.checked_sub(start).filter(|seen| *seen > 0) else { return };
        let rows = self.group * tokens.len();
        SCRATCH.with_borrow_mut(|scratch| unsafe {
            scratch.resize((rows * (size + seen)).max(scratch.len()), 0.0);
            let (queries, rest) = scratch.split_at_mut(rows * size);
            let scores = &mut rest[..rows * seen];
            let factor = (size as f32).powf(-0.5);
            for row in 0..rows {
                let (member, token) = (row / tokens.len(), first + row % tokens.len());
                let query = self.head(batch, token, head * self.group + member);
                self.rotate(query, token, 0, factor, &mut queries[row * size..(row + 1) * size]);
            }
            let cache = batch * self.keys.stride(0) + head * self.keys.stride(1) + start * size;
            let product = Product {
                rows,
                columns: seen,
                depth: size,
                a: queries.as_ptr(),
                a_stride: size,
                b: self.keys.pointer().add(cache),
                b_stride: size,
                c: scores.as_mut_ptr(),
                c_stride: seen,
                add: false,
            };
            blas::multiply(&product, true);
            for row in 0..rows {
                let token = first + row % tokens.len();
                let allowed = self.mask.map(|mask| mask.flags(token * mask.stride(2) + start, seen));
                let scores = &mut scores[row * seen..(row + 1) * seen];
                let seen = (self.held + token + 1).saturating_sub(start).min(seen);
                let to = &mut *results.add(row * step + size).cast::<[f32; 2]>();
                vectorised(Weights { scores, seen, allowed, to });
            }
            let product = Product {
                columns: size,
                depth: seen,
                a: scores.as_ptr(),
                a_stride: seen,
                b: self.values.pointer().add(cache),
                c: results,
                c_stride: step,
                ..product
            };
            blas::multiply(&product, false);
        });
    }

    /// Puts together what [`attend`](Self::attend) gave for all chunks of a block, which lie `of_chunk` elements apart.
    unsafe fn combine(&self, (cache, first): (usize, usize), results: *const f32, of_chunk: usize) {
        let (size, step) = (self.head_dim, self.head_dim + 2);
        let (batch, head) = (cache / self.kv_heads, cache % self.kv_heads);
        let tokens = first..self.width.min(first + BLOCK);
        let chunks = self.end(&tokens).div_ceil(CHUNK);
        for row in 0..self.group * tokens.len() {
            let (member, token) = (row / tokens.len(), first + row % tokens.len());
            let at = self.y.row(batch * self.width + token) + (head * self.group + member) * size;
            unsafe {
                let of = |chunk: usize| std::slice::from_raw_parts(results.add(chunk * of_chunk + row * step), step);
                vectorised(Combine { chunks, of, to: self.y.write(at, size) });
            }
        }
    }

    /// The end of what a block of tokens sees: without a mask nobody sees beyond its last one.
    fn end(&self, tokens: &Range<usize>) -> usize {
        self.held + if self.mask.is_some() { self.width } else { tokens.end }
    }
}

struct Rotate<'a> {
    x: &'a [f32],
    /// Cosines, then sines.
    turn: &'a [f32],
    norm: Option<(&'a [f32], f32)>,
    factor: f32,
    to: &'a mut [f32],
}

impl Loop for Rotate<'_> {
    #[inline(always)]
    fn run(self) {
        let half = self.x.len() / 2;
        let (cosines, sines) = self.turn.split_at(half);
        self.to.copy_from_slice(self.x);
        if let Some((weight, eps)) = self.norm {
            let scale = scale(self.x, eps);
            for (to, weight) in self.to.iter_mut().zip(weight) {
                *to = *to * scale * weight;
            }
        }
        let (left, right) = self.to.split_at_mut(half);
        for (((left, right), cosine), sine) in left.iter_mut().zip(right).zip(cosines).zip(sines) {
            let (a, b) = (*left, *right);
            *left = (a * cosine - b * sine) * self.factor;
            *right = (b * cosine + a * sine) * self.factor;
        }
    }
}

/// e^(score - the highest) of what a row may see in a chunk; 0 elsewhere.
struct Weights<'a> {
    scores: &'a mut [f32],
    /// Positions from the first on that it sees, unless `allowed` says which.
    seen: usize,
    allowed: Option<&'a [bool]>,
    /// The highest score and the sum of the weights.
    to: &'a mut [f32; 2],
}

impl Loop for Weights<'_> {
    #[inline(always)]
    fn run(self) {
        let seen = match self.allowed {
            Some(allowed) => {
                for (score, allowed) in self.scores.iter_mut().zip(allowed) {
                    *score = if *allowed { *score } else { f32::NEG_INFINITY };
                }
                self.scores.len()
            }
            None => self.seen,
        };
        let (scores, hidden) = self.scores.split_at_mut(seen);
        hidden.fill(0.0);
        let highest = highest(scores);
        // Where nothing is seen every weight is 0, whatever is subtracted.
        let total = exponentials(scores, if highest == f32::NEG_INFINITY { 0.0 } else { highest });
        *self.to = [highest, total];
    }
}

/// One row's softmax over all chunks times the values.
struct Combine<'a, F: Fn(usize) -> &'a [f32]> {
    chunks: usize,
    /// A chunk's weighted values, highest score and sum of weights.
    of: F,
    to: &'a mut [f32],
}

impl<'a, F: Fn(usize) -> &'a [f32]> Loop for Combine<'a, F> {
    #[inline(always)]
    fn run(self) {
        let size = self.to.len();
        let highest = (0..self.chunks).map(|chunk| (self.of)(chunk)[size]).fold(f32::NEG_INFINITY, f32::max);
        let mut total = 0.0;
        self.to.fill(0.0);
        for chunk in 0..self.chunks {
            let (values, rest) = (self.of)(chunk).split_at(size);
            let weight = exp(rest[0] - highest);
            total += weight * rest[1];
            for (to, value) in self.to.iter_mut().zip(values) {
                *to += weight * value;
            }
        }
        let scale = 1.0 / total;
        for to in self.to {
            *to *= scale;
        }
    }
}

#[inline(always)]
fn highest(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = values.as_chunks::<LANES>();
    for chunk in whole {
        for lane in 0..LANES {
            lanes[lane] = if chunk[lane] > lanes[lane] { chunk[lane] } else { lanes[lane] };
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

/// Replaces each value by e^(value - highest) and gives their sum, added in an order that depends on places only: a
/// masked place adds 0.
#[inline(always)]
fn exponentials(values: &mut [f32], highest: f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (whole, rest) = values.as_chunks_mut::<LANES>();
    for chunk in whole {
        for lane in 0..LANES {
            chunk[lane] = exp(chunk[lane] - highest);
            lanes[lane] += chunk[lane];
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *value = exp(*value - highest);
        *lane += *value;
    }
    total(lanes)
}
