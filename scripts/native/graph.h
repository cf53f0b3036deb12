// What operations of ours exchange with MLX's graph. src/fused/host_op.rs declares the same types.
#pragma once
#include <cstdint>
#include <vector>
#include "mlx/mlx.h"

namespace mx = mlx::core;

extern "C" {
struct mlx_array { void* ctx; };

// The shape of an output.
struct Output {
  std::int32_t shape[4];
  std::int32_t dimensions;
};
}

inline const mx::array& get(mlx_array a) { return *static_cast<const mx::array*>(a.ctx); }

inline std::vector<mx::Shape> shapes_of(const Output* wanted, std::size_t count) {
  std::vector<mx::Shape> shapes;
  shapes.reserve(count);
  for (std::size_t i = 0; i < count; ++i) shapes.emplace_back(wanted[i].shape, wanted[i].shape + wanted[i].dimensions);
  return shapes;
}

// Adds an operation to the graph.
inline void add_to_graph(
    mlx_array* outputs, std::vector<mx::Shape> shapes, const std::vector<mx::Dtype>& dtypes,
    const std::shared_ptr<mx::Primitive>& operation, const mlx_array* inputs, std::size_t input_count) {
  std::vector<mx::array> from;
  from.reserve(input_count);
  for (std::size_t i = 0; i < input_count; ++i) from.push_back(get(inputs[i]));
  auto made = mx::array::make_arrays(std::move(shapes), dtypes, operation, from);
  for (std::size_t i = 0; i < made.size(); ++i) outputs[i].ctx = new mx::array(std::move(made[i]));
}
