// mlx-c compiles its half-precision accessors out where the compiler lacks __fp16 and __bf16 (x86).
// mlx-rs calls them, so they are defined here; they pass the 16-bit patterns.
#include <cstdint>
#include <cstring>
#include "mlx/mlx.h"

extern "C" struct mlx_array { void* ctx; };

namespace {
mlx::core::array& get(mlx_array a) { return *static_cast<mlx::core::array*>(a.ctx); }

template <typename T>
int item(std::uint16_t* out, mlx_array a) {
  try {
    T value = get(a).item<T>();
    std::memcpy(out, &value, sizeof *out);
    return 0;
  } catch (...) {
    return 1;
  }
}

template <typename T>
const std::uint16_t* data(mlx_array a) { return reinterpret_cast<const std::uint16_t*>(get(a).data<T>()); }
}  // namespace

extern "C" {
int mlx_array_item_float16(std::uint16_t* out, mlx_array a) { return item<mlx::core::float16_t>(out, a); }
int mlx_array_item_bfloat16(std::uint16_t* out, mlx_array a) { return item<mlx::core::bfloat16_t>(out, a); }
const std::uint16_t* mlx_array_data_float16(mlx_array a) { return data<mlx::core::float16_t>(a); }
const std::uint16_t* mlx_array_data_bfloat16(mlx_array a) { return data<mlx::core::bfloat16_t>(a); }
}
