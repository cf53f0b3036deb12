// Operations that MLX made once, added to the graph again with other inputs. See src/fused/again.rs.
#include "graph.h"

extern "C" {
struct Again {
  std::shared_ptr<mx::Primitive> primitive;
  std::vector<mx::Dtype> dtypes;
};

// The operation that made these arrays, which are all of its outputs and not evaluated yet; none if there is no such one.
Again* ridgepoint_again_new(const mlx_array* outputs, std::size_t count) {
  Again again;
  for (std::size_t i = 0; i < count; ++i) {
    const auto& output = get(outputs[i]);
    if (!output.has_primitive()) return nullptr;
    again.primitive = output.primitive_ptr();
    again.dtypes.push_back(output.dtype());
  }
  return new Again(std::move(again));
}

void ridgepoint_again_free(Again* again) { delete again; }

// Adds it to the graph, with as many outputs as before. Returns 0, or 1 if MLX refuses.
int ridgepoint_again_add(
    const Again* again, mlx_array* outputs, const Output* wanted, const mlx_array* inputs, std::size_t input_count) {
  try {
    auto shapes = shapes_of(wanted, again->dtypes.size());
    add_to_graph(outputs, std::move(shapes), again->dtypes, again->primitive, inputs, input_count);
    return 0;
  } catch (...) {
    return 1;
  }
}
}
