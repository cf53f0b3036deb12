//! The calls of MLX that `mlx-rs` does not wrap: its version, which devices there are, and what they are called.

use super::device::DeviceKind;
use std::ffi::CStr;

/// MLX's version, for example `0.32.2`.
pub fn version() -> String {
    let mut text = unsafe { mlx_sys::mlx_string_new() };
    let status = unsafe { mlx_sys::mlx_version(&mut text) };
    let data = unsafe { mlx_sys::mlx_string_data(text) };
    let version = if status == 0 && !data.is_null() {
        unsafe { CStr::from_ptr(data) }.to_string_lossy().into_owned()
    } else {
        String::from("unknown")
    };
    unsafe { mlx_sys::mlx_string_free(text) };
    version
}

/// Whether this process's MLX can compute on the first device of a kind.
pub fn is_available(kind: DeviceKind) -> bool {
    let device = unsafe { mlx_sys::mlx_device_new_type(device_type(kind), 0) };
    let mut available = false;
    let status = unsafe { mlx_sys::mlx_device_is_available(&mut available, device) };
    unsafe { mlx_sys::mlx_device_free(device) };
    status == 0 && available
}

/// Whether this process's MLX was built with Metal and found a Metal device.
pub fn metal_is_available() -> bool {
    let mut available = false;
    unsafe { mlx_sys::mlx_metal_is_available(&mut available) == 0 && available }
}

/// What MLX says about a device.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeviceInfo {
    /// The maker's name, for example `NVIDIA H100 80GB HBM3`.
    pub name: Option<String>,
    /// The device's own memory, in bytes; on Apple silicon the memory it shares with the CPU.
    pub memory_bytes: Option<u64>,
}

/// What MLX says about the first device of a kind; empty where it says nothing.
pub fn device_info(kind: DeviceKind) -> DeviceInfo {
    if !is_available(kind) {
        return DeviceInfo::default();
    }
    let device = unsafe { mlx_sys::mlx_device_new_type(device_type(kind), 0) };
    let mut info = unsafe { mlx_sys::mlx_device_info_new() };
    let mut found = DeviceInfo::default();
    if unsafe { mlx_sys::mlx_device_info_get(&mut info, device) } == 0 {
        found.name = info_text(info, c"device_name");
        found.memory_bytes = info_size(info, c"total_memory").or_else(|| info_size(info, c"memory_size"));
    }
    unsafe {
        mlx_sys::mlx_device_info_free(info);
        mlx_sys::mlx_device_free(device);
    }
    found
}

fn device_type(kind: DeviceKind) -> mlx_sys::mlx_device_type {
    match kind {
        DeviceKind::Cpu => mlx_sys::mlx_device_type__MLX_CPU,
        DeviceKind::Gpu => mlx_sys::mlx_device_type__MLX_GPU,
    }
}

fn info_text(info: mlx_sys::mlx_device_info, key: &CStr) -> Option<String> {
    let mut value = std::ptr::null();
    let status = unsafe { mlx_sys::mlx_device_info_get_string(&mut value, info, key.as_ptr()) };
    let text = (status == 0 && !value.is_null()).then(|| unsafe { CStr::from_ptr(value) }.to_string_lossy());
    text.map(|text| text.trim().to_string()).filter(|text| !text.is_empty())
}

fn info_size(info: mlx_sys::mlx_device_info, key: &CStr) -> Option<u64> {
    let mut value = 0;
    let status = unsafe { mlx_sys::mlx_device_info_get_size(&mut value, info, key.as_ptr()) };
    (status == 0).then_some(value as u64)
}
