//! `libmlx.so` really calls our `cblas_sgemm`, and a row's result does not depend on the rows computed with it.
#![cfg(all(feature = "mlx", target_os = "linux"))]

use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, Device, random};
use ridgepoint::blas;

/// Rows of the widest product; the narrower ones take the first of them.
const ROWS: i32 = 128;

fn bits(array: &Array) -> Vec<u32> {
    array.eval().unwrap();
    array.as_slice::<f32>().iter().map(|value| value.to_bits()).collect()
}

#[test]
fn mlx_calls_us_and_rows_are_bit_equal_at_every_width() {
    Device::set_default(&Device::cpu());
    let uniform = |shape: &[i32]| random::uniform::<_, f32>(-1.0, 1.0, shape, None).unwrap();
    let (rows, weights) = (uniform(&[ROWS, 576]), uniform(&[1536, 576]));
    let before = blas::served();
    let wide = bits(&rows.matmul(weights.t()).unwrap());
    assert!(blas::served() > before, "libmlx.so did not call the exported cblas_sgemm");
    for width in (1..=32).chain([33, 48, 64, 100]) {
        let narrow = bits(&rows.try_index(..width).unwrap().matmul(weights.t()).unwrap());
        assert!(narrow == wide[..narrow.len()], "rows differ at width {width}");
    }
}
