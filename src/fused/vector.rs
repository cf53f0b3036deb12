//! Loops that the compiler turns into vector instructions, compiled once for each instruction set and chosen at run time.

#[cfg(target_arch = "x86_64")]
use std::arch::is_x86_feature_detected;

/// Independent partial sums of a reduction.
pub const LANES: usize = 16;

/// Work on rows of floats. `run` must be `#[inline(always)]`, so that it is compiled with the instructions of its caller.
pub trait Loop {
    fn run(self);
}

/// Runs the loop with the widest instructions that this processor has.
pub fn vectorised(work: impl Loop) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has them.
            return unsafe { with_avx512(work) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has them.
            return unsafe { with_avx2(work) };
        }
    }
    work.run();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn with_avx512(work: impl Loop) {
    work.run();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn with_avx2(work: impl Loop) {
    work.run();
}

/// The sum of `of` over all elements, in an order that depends on their number only.
#[inline(always)]
pub fn sum(values: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (whole, rest) = values.as_chunks::<LANES>();
    for chunk in whole {
        for lane in 0..LANES {
            lanes[lane] += of(chunk[lane]);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane += of(*value);
    }
    total(lanes)
}

/// The sum of the lanes, in a fixed tree.
#[inline(always)]
pub fn total(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// e^x for x ≤ 0 to 2 units in the last place; 0 below -87. NaN stays NaN. After S. Moshier's Cephes `expf`: e^r as a
/// polynomial around 0, times a power of two made from the bits of the rounded exponent.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// Adding it rounds to an integer, whose bits are then the lowest ones.
    const ROUND: f32 = 12_582_912.0;
    let shifted = x.clamp(-87.0, 88.0) * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts, so that the difference is exact.
    let r = x.clamp(-87.0, 88.0) - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let mut y = 1.987_569_2e-4;
    for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 5.0e-1] {
        y = y * r + c;
    }
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    let value = (y * (r * r) + r + 1.0) * power;
    if x < -87.0 { 0.0 } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_that_of_the_library() {
        for step in 0..870_000 {
            let x = -step as f32 / 1e4;
            let right = f64::from(x).exp();
            assert!(
                ((f64::from(exp(x)) - right) / right).abs() < 2.0 * f64::from(f32::EPSILON),
                "{x}: {} {right}",
                exp(x)
            );
        }
        for x in [0.5f32, 20.0, 80.0] {
            let right = f64::from(x).exp();
            assert!(((f64::from(exp(x)) - right) / right).abs() < 2.0 * f64::from(f32::EPSILON), "{x}");
        }
        assert_eq!((exp(0.0), exp(-100.0), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn sums_take_every_element_once() {
        for count in 0..70 {
            let values: Vec<f32> = (1..=count).map(|i| i as f32).collect();
            assert_eq!(sum(&values, |v| 2.0 * v), (count * (count + 1)) as f32);
        }
    }
}
