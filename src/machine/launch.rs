//! What every measuring command records of a start of the program: the environment and the measured ceilings.

use super::ceilings::{ceilings, copy_bandwidth, matrix_rate};
use super::device::DeviceKind;
use super::environment::Environment;
use crate::roofline::Ceilings;
use anyhow::Result;
use mlx_rs::Dtype;
use serde_json::{Value, json};
use std::time::Duration;

/// How long copy bandwidth is measured; half of it for the matrix rate.
pub const CEILING_TIME: Duration = Duration::from_secs(2);

/// Measures copy bandwidth for about `time`, and the rate of products in `dtype` for half of it; tells `done` after each.
/// Gives the ceilings and the entry of `launches` in `environment.json`.
pub fn measure(
    device: DeviceKind,
    environment: &Environment,
    dtype: Dtype,
    time: Duration,
    done: &mut dyn FnMut(),
) -> Result<(Ceilings, Value)> {
    let copy = copy_bandwidth(device, environment.memory_bytes, time)?;
    done();
    let rate = matrix_rate(dtype, time / 2)?;
    let ceilings = ceilings(device, &copy, &rate);
    done();
    let mut launch = serde_json::to_value(environment)?;
    launch["ceilings"] = serde_json::to_value(ceilings)?;
    launch["copy_bandwidth"] = serde_json::to_value(&copy)?;
    launch["matrix_rate"] = json!(rate);
    Ok((ceilings, launch))
}
