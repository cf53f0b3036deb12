//! Attention of new tokens over the cache: head norms, rotary embedding, the cache's update, scores, softmax and values.

use super::host_op::{Output, View, add, parameters};
use super::norm::scale;
use super::vector::{LANES, Loop, exp, total, vectorised};
use crate::blas::{self, Product};
use anyhow::Result;
use mlx_rs::Array;
use std::cell::RefCell;

/// Query tokens that are taken together: as many as let a block's scores stay near the core.
const BLOCK: usize = 32;
/// Multiplications below which one thread does it all.
const ALONE: usize = 1 << 17;

thread_local! {
    /// Queries, scores and results of a block, kept from call to call.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
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
    let blocks = call.width.div_ceil(BLOCK);
    let rows = qkv.size(1) * call.width * call.group * call.kv_heads;
    let alone = rows * (call.held + call.width) * call.head_dim < ALONE;
    let share = |parts: usize, work: &(dyn Fn(usize) + Sync)| {
        if alone { (0..parts).for_each(work) } else { blas::share(parts, work) }
    };
    // SAFETY: each part stores into a cache head of its own, or writes a block of rows of its own.
    share(caches, &|part| unsafe { call.store(part / call.kv_heads, part % call.kv_heads) });
    share(caches * blocks, &|part| unsafe {
        let (cache, block) = (part / blocks, part % blocks);
        call.attend(cache / call.kv_heads, cache % call.kv_heads, block * BLOCK);
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

    /// Up to [`BLOCK`] tokens from `first` on, for the query heads of one key head.
    unsafe fn attend(&self, batch: usize, head: usize, first: usize) {
        let size = self.head_dim;
        let tokens = first..self.width.min(first + BLOCK);
        // Without a mask nobody sees beyond the block's last token.
        let seen = self.held + if self.mask.is_some() { self.width } else { tokens.end };
        let rows = self.group * tokens.len();
        SCRATCH.with_borrow_mut(|scratch| unsafe {
            scratch.resize((rows * (2 * size + seen)).max(scratch.len()), 0.0);
            let (queries, rest) = scratch.split_at_mut(rows * size);
            let (results, rest) = rest.split_at_mut(rows * size);
            let scores = &mut rest[..rows * seen];
            let factor = (size as f32).powf(-0.5);
            for row in 0..rows {
                let (member, token) = (row / tokens.len(), first + row % tokens.len());
                let query = self.head(batch, token, head * self.group + member);
                self.rotate(query, token, 0, factor, &mut queries[row * size..(row + 1) * size]);
            }
            let cache = batch * self.keys.stride(0) + head * self.keys.stride(1);
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
                let allowed = self.mask.map(|mask| mask.flags(token * mask.stride(2), seen));
                let scores = &mut scores[row * seen..(row + 1) * seen];
                vectorised(Softmax { scores, seen: self.held + token + 1, allowed });
            }
            let product = Product {
                columns: size,
                depth: seen,
                a: scores.as_ptr(),
                a_stride: seen,
                b: self.values.pointer().add(cache),
                c: results.as_mut_ptr(),
                c_stride: size,
                ..product
            };
            blas::multiply(&product, false);
            for (row, result) in results.chunks_exact(size).enumerate() {
                let (member, token) = (row / tokens.len(), first + row % tokens.len());
                let at = self.y.row(batch * self.width + token) + (head * self.group + member) * size;
                self.y.write(at, size).copy_from_slice(result);
            }
        });
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

/// The softmax of one row over what it may see; 0 elsewhere.
struct Softmax<'a> {
    scores: &'a mut [f32],
    /// Positions from the first on that it sees, unless `allowed` says which.
    seen: usize,
    allowed: Option<&'a [bool]>,
}

impl Loop for Softmax<'_> {
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
        let total = exponentials(scores, highest);
        let scale = 1.0 / total;
        for score in scores {
            *score *= scale;
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
