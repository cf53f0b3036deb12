// Operations that MLX made once, added to the graph again with other inputs. See src/fused/again.rs.
#include <cstdint>
#include <vector>
#include "mlx/mlx.h"

namespace mx = mlx::core;

extern "C" {
struct mlx_array { void* ctx; };

struct Again {
  std::shared_ptr<mx::Primitive> primitive;
  std::vector<mx::Dtype> dtypes;
};

// The operation that made these arrays, which are all of its outputs and not evaluated yet; none if there is no such one.
Again* ridgepoint_again_new(const mlx_array* outputs, std::size_t count) {
  Again again;
  for (std::size_t i = 0; i < count; ++i) {
    const auto& output = *static_cast<const mx::array*>(outputs[i].ctx);
    if (!output.has_primitive()) return nullptr;
    again.primitive = output.primitive_ptr();
    again.dtypes.push_back(output.dtype());
  }
  return new Again(std::move(again));
}

void ridgepoint_again_free(Again* again) { delete again; }

// Adds it to the graph. `shapes` are `dimensions[i]` numbers for each output, one after the other. Returns 0, or 1 if MLX
// refuses.
int ridgepoint_again_add(
    const Again* again, mlx_array* outputs, const std::int32_t* shapes, const std::size_t* dimensions,
    const mlx_array* inputs, std::size_t input_count) {
  try {
    std::vector<mx::Shape> wanted;
    for (std::size_t i = 0; i < again->dtypes.size(); shapes += dimensions[i++]) {
      wanted.emplace_back(shapes, shapes + dimensions[i]);
    }
    std::vector<mx::array> from;
    from.reserve(input_count);
    for (std::size_t i = 0; i < input_count; ++i) from.push_back(*static_cast<const mx::array*>(inputs[i].ctx));
    auto made = mx::array::make_arrays(std::move(wanted), again->dtypes, again->primitive, from);
    for (std::size_t i = 0; i < made.size(); ++i) outputs[i].ctx = new mx::array(std::move(made[i]));
    return 0;
  } catch (...) {
    return 1;
  }
}
}
