// An MLX operation that a function of the program computes on the CPU: one task where MLX's own graph would have many.
// See src/fused/host_op.rs, which declares the same types.
#include <array>
#include <cstdint>
#include <cstring>
#include <vector>
#include "mlx/mlx.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/primitives.h"

namespace mx = mlx::core;

extern "C" {
struct mlx_array { void* ctx; };

// The memory of one array: four dimensions, missing ones in front, strides in elements.
struct View {
  void* data;
  std::int64_t shape[4];
  std::int64_t strides[4];
};

// The shape of an output.
struct Output {
  std::int32_t shape[4];
  std::int32_t dimensions;
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

const mx::array& get(mlx_array a) { return *static_cast<const mx::array*>(a.ctx); }

}  // namespace

// Adds the operation to the graph, on the CPU's default stream. All arrays are float32, except inputs that the kernel
// knows to be of another type. Returns 0, or 1 if MLX refuses.
extern "C" int ridgepoint_host_op(
    mlx_array* outputs, const Output* wanted, std::size_t output_count, const mlx_array* inputs, std::size_t input_count,
    Kernel kernel, const std::uint8_t* parameters) {
  try {
    Parameters copied;
    std::memcpy(copied.data(), parameters, copied.size());
    std::vector<mx::Shape> shapes;
    for (std::size_t i = 0; i < output_count; ++i) {
      shapes.emplace_back(wanted[i].shape, wanted[i].shape + wanted[i].dimensions);
    }
    std::vector<mx::array> from;
    for (std::size_t i = 0; i < input_count; ++i) from.push_back(get(inputs[i]));
    auto stream = mx::default_stream(mx::Device(mx::Device::cpu));
    auto op = std::make_shared<HostOp>(stream, kernel, copied);
    auto made = mx::array::make_arrays(
        std::move(shapes), std::vector<mx::Dtype>(output_count, mx::float32), op, std::move(from));
    for (std::size_t i = 0; i < output_count; ++i) outputs[i].ctx = new mx::array(std::move(made[i]));
    return 0;
  } catch (...) {
    return 1;
  }
}
