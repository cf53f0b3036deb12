// An MLX operation that a function of the program computes on the CPU: one task where MLX's own graph would have many.
// See src/fused/host_op.rs, which declares the same types.
#include <array>
#include <cstring>
#include "graph.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/primitives.h"

extern "C" {
// The memory of one array: four dimensions, missing ones in front, strides in elements.
struct View {
  void* data;
  std::int64_t shape[4];
  std::int64_t strides[4];
};

using Parameters = std::array<std::uint8_t, 64>;
using Kernel = void (*)(const View* inputs, const View* outputs, const std::uint8_t* parameters);
}

namespace {

View view(const mx::array& a) {
  View v{const_cast<char*>(a.data<char>()), {1, 1, 1, 1}, {0, 0, 0, 0}};
  for (int i = 0, at = 4 - a.ndim(); i < a.ndim(); ++i, ++at) {
    v.shape[at] = a.shape(i);
    v.strides[at] = a.strides(i);
  }
  return v;
}

class HostOp : public mx::Primitive {
 public:
  HostOp(mx::Stream stream, Kernel kernel, const Parameters& parameters)
      : Primitive(stream), kernel_(kernel), parameters_(parameters) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    for (auto& output : outputs) output.set_data(mx::allocator::malloc(output.nbytes()));
    std::vector<View> views;
    views.reserve(inputs.size() + outputs.size());
    for (const auto& a : inputs) views.push_back(view(a));
    for (const auto& a : outputs) views.push_back(view(a));
    auto& encoder = mx::cpu::get_command_encoder(stream());
    encoder.dispatch([views = std::move(views), count = inputs.size(), kernel = kernel_, parameters = parameters_]() {
      kernel(views.data(), views.data() + count, parameters.data());
    });
  }

  void eval_gpu(const std::vector<mx::array>&, std::vector<mx::array>&) override {
    throw std::runtime_error("a host operation runs on the CPU only");
  }

  const char* name() const override { return "HostOp"; }

 private:
  Kernel kernel_;
  Parameters parameters_;
};

}  // namespace

// Adds the operation to the graph, on the CPU's default stream. All arrays are float32, except inputs that the kernel
// knows to be of another type. Returns 0, or 1 if MLX refuses.
extern "C" int ridgepoint_host_op(
    mlx_array* outputs, const Output* wanted, std::size_t output_count, const mlx_array* inputs, std::size_t input_count,
    Kernel kernel, const std::uint8_t* parameters) {
  try {
    Parameters copied;
    std::memcpy(copied.data(), parameters, copied.size());
    auto stream = mx::default_stream(mx::Device(mx::Device::cpu));
    auto op = std::make_shared<HostOp>(stream, kernel, copied);
    std::vector<mx::Dtype> dtypes(output_count, mx::float32);
    add_to_graph(outputs, shapes_of(wanted, output_count), dtypes, op, inputs, input_count);
    return 0;
  } catch (...) {
    return 1;
  }
}
