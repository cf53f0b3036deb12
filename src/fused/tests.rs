//! Every fused operation against MLX's own, and a token's row whatever is computed with it.

use super::bytes::Bytes;
use super::*;
use crate::machine::device::{DeviceKind, select};
use mlx_rs::fast::{self, ScaledDotProductAttentionMask};
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::ops::{addmm, concatenate, dequantize, matmul, quantize, quantized_matmul, sigmoid, zeros};
use mlx_rs::random;

fn normal(shape: &[i32], seed: u64) -> Array {
    random::normal::<f32>(shape, None, None, Some(&random::key(seed).unwrap())).unwrap()
}

fn assert_close(ours: &Array, theirs: &Array, tolerance: f32) {
    assert_eq!(ours.shape(), theirs.shape());
    let difference = ours.subtract(theirs).unwrap().abs().unwrap().max(None).unwrap();
    let difference = difference.try_item_exact::<f32>().unwrap();
    assert!(difference <= tolerance, "they differ by {difference}");
}

fn bits(array: &Array) -> Vec<u32> {
    array.reshape(&[-1]).unwrap().try_as_slice::<f32>().unwrap().iter().map(|value| value.to_bits()).collect()
}

#[test]
fn norms_are_mlxs() {
    select(Some(DeviceKind::Cpu)).unwrap();
    for (batch, width, size) in [(1, 1, 576), (2, 3, 7), (3, 5, 64)] {
        let (x, y, weight) = (normal(&[batch, width, size], 1), normal(&[batch, width, size], 2), normal(&[size], 3));
        assert_close(&rms_norm(&x, &weight, 1e-5).unwrap(), &fast::rms_norm(&x, Some(&weight), 1e-5).unwrap(), 1e-5);
        let [sum, normed] = add_rms_norm(&x, &y, &weight, 1e-5).unwrap();
        let theirs = x.add(&y).unwrap();
        assert_close(&sum, &theirs, 0.0);
        assert_close(&normed, &fast::rms_norm(&theirs, Some(&weight), 1e-5).unwrap(), 1e-5);
    }
    // The last row of several sequences does not lie where a contiguous array has it.
    let (x, weight) = (normal(&[3, 4, 32], 4), normal(&[32], 5));
    let last = x.try_index((.., -1.., ..)).unwrap();
    assert_close(&rms_norm(&last, &weight, 1e-6).unwrap(), &fast::rms_norm(&last, Some(&weight), 1e-6).unwrap(), 1e-5);
}

#[test]
fn the_gated_activation_is_mlxs() {
    select(Some(DeviceKind::Cpu)).unwrap();
    for (width, inner) in [(1, 1536), (40, 300), (3, 5)] {
        let gate_up = normal(&[1, width, 2 * inner], 6).multiply(Array::from_f32(20.0)).unwrap();
        let gate = gate_up.try_index((.., .., ..inner)).unwrap();
        let up = gate_up.try_index((.., .., inner..)).unwrap();
        let theirs = gate.multiply(sigmoid(&gate).unwrap()).unwrap().multiply(&up).unwrap();
        assert_close(&swiglu(&gate_up).unwrap(), &theirs, 2e-3);
    }
}

#[test]
fn products_are_mlxs() {
    select(Some(DeviceKind::Cpu)).unwrap();
    for (batch, width) in [(1, 1), (1, 9), (2, 1), (2, 3), (1, 200)] {
        let (x, weight, bias) = (normal(&[batch, width, 33], 7), normal(&[21, 33], 8), normal(&[21], 9));
        assert_close(&linear(&x, &weight, None).unwrap(), &matmul(&x, weight.t()).unwrap(), 1e-4);
        let theirs = addmm(&bias, &x, weight.t(), None, None).unwrap();
        assert_close(&linear(&x, &weight, Some(&bias)).unwrap(), &theirs, 1e-4);
    }
    // Rows of several sequences that do not lie evenly, as one step and as two.
    let (x, weight) = (normal(&[3, 5, 16], 10), normal(&[8, 16], 11));
    for last in [x.try_index((.., -1.., ..)).unwrap(), x.try_index((.., -2.., ..)).unwrap()] {
        assert_close(&linear(&last, &weight, None).unwrap(), &matmul(&last, weight.t()).unwrap(), 1e-4);
    }
}

/// Sizes of a test's attention.
const QUERIES: i32 = 6;
const KEYS: i32 = 2;
const HEAD: i32 = 16;
const THETA: f32 = 1e4;

/// What our attention gives for `qkv` behind `held` tokens of which `before` are the keys and values.
fn ours(qkv: &Array, before: &[Array; 2], norms: Option<[&Array; 2]>, mask: Option<&Array>) -> Array {
    let (batch, width, held) = (qkv.dim(0), qkv.dim(1), before[0].dim(2));
    let room = zeros::<f32>(&[batch, KEYS, width + 3, HEAD]).unwrap();
    let buffers = before.each_ref().map(|held| concatenate(&[held, &room], 2).unwrap());
    let frequencies: Vec<f32> = (0..HEAD / 2).map(|i| THETA.powf(-2.0 * i as f32 / HEAD as f32)).collect();
    let rotation = Rotation::new(&frequencies, held, width);
    let heads = Heads::new(QUERIES, KEYS, HEAD, held, 1e-5);
    let buffers = Buffers { keys: &buffers[0], values: &buffers[1], written: None };
    attention(qkv, buffers, heads, &rotation, norms, mask).unwrap()
}

/// The same out of MLX's operations.
fn theirs(qkv: &Array, before: &[Array; 2], norms: Option<[&Array; 2]>, mask: Option<&Array>) -> Array {
    let (batch, width, held) = (qkv.dim(0), qkv.dim(1), before[0].dim(2));
    let part = |from: i32, count: i32| {
        let part = qkv.try_index((.., .., from * HEAD..(from + count) * HEAD)).unwrap();
        part.reshape(&[batch, width, count, HEAD]).unwrap()
    };
    let (mut queries, mut keys) = (part(0, QUERIES), part(QUERIES, KEYS));
    if let Some([q_norm, k_norm]) = norms {
        queries = fast::rms_norm(&queries, Some(q_norm), 1e-5).unwrap();
        keys = fast::rms_norm(&keys, Some(k_norm), 1e-5).unwrap();
    }
    let swapped = |x: Array| x.transpose_axes(&[0, 2, 1, 3]).unwrap();
    let turned = |x: Array| fast::rope(swapped(x), HEAD, false, Some(THETA), 1.0, held, None::<&Array>).unwrap();
    let keys = concatenate(&[&before[0], &turned(keys)], 2).unwrap();
    let values = concatenate(&[&before[1], &swapped(part(QUERIES + KEYS, KEYS))], 2).unwrap();
    let mask = mask.map_or(ScaledDotProductAttentionMask::Causal, ScaledDotProductAttentionMask::Array);
    let scale = (HEAD as f32).powf(-0.5);
    let y = fast::scaled_dot_product_attention(turned(queries), keys, values, scale, mask, None).unwrap();
    swapped(y).reshape(&[batch, width, -1]).unwrap()
}

fn qkv(batch: i32, width: i32, seed: u64) -> Array {
    normal(&[batch, width, (QUERIES + 2 * KEYS) * HEAD], seed)
}

fn before(batch: i32, held: i32) -> [Array; 2] {
    [normal(&[batch, KEYS, held, HEAD], 20), normal(&[batch, KEYS, held, HEAD], 21)]
}

#[test]
fn attention_is_mlxs() {
    select(Some(DeviceKind::Cpu)).unwrap();
    let norms = [normal(&[HEAD], 22), normal(&[HEAD], 23)];
    for (batch, width, held) in [(1, 1, 1), (1, 1, 300), (2, 5, 7), (1, 100, 20), (3, 33, 64), (2, 40, 250)] {
        let (qkv, before) = (qkv(batch, width, 24), before(batch, held));
        for norms in [None, Some(norms.each_ref())] {
            assert_close(&ours(&qkv, &before, norms, None), &theirs(&qkv, &before, norms, None), 2e-5);
        }
        let mask = random::bernoulli(&Array::from_f32(0.7), &[width, held + width], Some(&random::key(25).unwrap()));
        // Every token sees itself, so that no row is empty.
        let own: Vec<bool> = (0..width).flat_map(|i| (0..held + width).map(move |j| j == held + i)).collect();
        let mask = mask.unwrap().logical_or(Array::from_slice(&own, &[width, held + width])).unwrap();
        let norms = Some(norms.each_ref());
        assert_close(&ours(&qkv, &before, norms, Some(&mask)), &theirs(&qkv, &before, norms, Some(&mask)), 2e-5);
    }
}

#[test]
fn a_tokens_attention_does_not_depend_on_those_that_follow_it() {
    select(Some(DeviceKind::Cpu)).unwrap();
    // The second begins in one chunk of the context and ends in another.
    for held in [45, 120, 300] {
        let (qkv, before) = (qkv(1, 70, 26), before(1, held));
        let wide = ours(&qkv, &before, None, None);
        for width in [1, 2, 8, 9, 31, 33, 64] {
            let narrow = ours(&qkv.try_index((.., ..width, ..)).unwrap(), &before, None, None);
            assert_eq!(bits(&narrow), bits(&wide.try_index((.., ..width, ..)).unwrap()), "width {width}");
        }
    }
}

#[test]
fn new_keys_and_values_lie_behind_those_held_and_nothing_else_changes() {
    select(Some(DeviceKind::Cpu)).unwrap();
    let (qkv, old) = (qkv(1, 2, 27), before(1, 3));
    let room = normal(&[1, KEYS, 4, HEAD], 28);
    let buffers = old.each_ref().map(|held| concatenate(&[held, &room], 2).unwrap());
    let rotation = Rotation::new(&[0.0; HEAD as usize / 2], 3, 2);
    let views = Buffers { keys: &buffers[0], values: &buffers[1], written: None };
    let y = attention(&qkv, views, Heads::new(QUERIES, KEYS, HEAD, 3, 0.0), &rotation, None, None).unwrap();
    mlx_rs::transforms::eval([&y]).unwrap();
    for (place, (buffer, old)) in buffers.iter().zip(&old).enumerate() {
        let first = QUERIES + place as i32 * KEYS;
        let new = qkv.try_index((.., .., first * HEAD..(first + KEYS) * HEAD)).unwrap();
        // Turned by nothing.
        let new = new.reshape(&[1, 2, KEYS, HEAD]).unwrap().transpose_axes(&[0, 2, 1, 3]).unwrap();
        assert_eq!(bits(&buffer.try_index((.., .., ..3, ..)).unwrap()), bits(old));
        assert_eq!(bits(&buffer.try_index((.., .., 3..5, ..)).unwrap()), bits(&new));
        assert_eq!(
            bits(&buffer.try_index((.., .., 5.., ..)).unwrap()),
            bits(&room.try_index((.., .., 2.., ..)).unwrap())
        );
    }
}

#[test]
fn eight_bit_weights_give_what_mlx_gives_with_them() {
    select(Some(DeviceKind::Cpu)).unwrap();
    for (outputs, inputs, group_size) in [(48, 64, 64), (131, 192, 32), (20, 128, 128)] {
        let (weight, scales, biases) = quantize(normal(&[outputs, inputs], 31), group_size, 8).unwrap();
        let bytes = Bytes::new(&weight, &scales, &biases).unwrap();
        assert_eq!(bytes.block(), group_size);
        for (batch, width) in [(1, 1), (1, 9), (2, 3)] {
            let x = normal(&[batch, width, inputs], 32);
            let theirs = quantized_matmul(&x, &weight, &scales, &biases, true, group_size, 8).unwrap();
            assert_close(&bytes.linear(&x, None).unwrap(), &theirs, 1e-4);
            let bias = normal(&[outputs], 33);
            assert_close(&bytes.linear(&x, Some(&bias)).unwrap(), &theirs.add(&bias).unwrap(), 1e-4);
        }
        let ids = Array::from_slice(&[0u32, 19, 3, 0], &[2, 2]);
        let rows = dequantize(&weight, &scales, &biases, group_size, 8).unwrap().take_axis(&ids, 0).unwrap();
        assert_close(&bytes.rows(&ids).unwrap(), &rows, 1e-6);
        for (stored, given) in bytes.stored().unwrap().iter().zip([&weight, &scales, &biases]) {
            assert!(stored.eq_values(given).unwrap(), "{outputs} x {inputs}");
        }
    }
}
