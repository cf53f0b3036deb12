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

// What an output looks like. It takes over the memory of an input if `takes_over` is not negative.
struct Output {
  std::int32_t shape[4];
  std::int32_t dimensions;
  std::int32_t takes_over;
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
  HostOp(mx::Stream stream, Kernel kernel, const Parameters& parameters, std::vector<int> takes_over)
      : Primitive(stream), kernel_(kernel), parameters_(parameters), takes_over_(std::move(takes_over)) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    auto& encoder = mx::cpu::get_command_encoder(stream());
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const auto* from = takes_over_[i] < 0 ? nullptr : &inputs[takes_over_[i]];
      if (from && from->data_size() != from->size()) throw std::runtime_error("a host operation takes over whole arrays only");
      if (from && from->is_donatable()) {
        outputs[i].copy_shared_buffer(*from);
        continue;
      }
      outputs[i].set_data(mx::allocator::malloc(outputs[i].nbytes()));
      if (from) {
        // Somebody else still looks at the input: it is copied, not changed under their eyes.
        encoder.dispatch([to = outputs[i].data<char>(), data = from->data<char>(), size = from->nbytes()]() {
          std::memcpy(to, data, size);
        });
      }
    }
    std::vector<View> views;
    for (const auto& a : inputs) views.push_back(view(a));
    for (const auto& a : outputs) views.push_back(view(a));
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
  std::vector<int> takes_over_;
};

const mx::array& get(mlx_array a) { return *static_cast<const mx::array*>(a.ctx); }

}  // namespace

// Adds the operation to the graph, on the CPU's default stream. All arrays are float32, except inputs that the kernel
// knows to be of another type; inputs whose memory is taken over are row-contiguous. Returns 0, or 1 if MLX refuses.
extern "C" int ridgepoint_host_op(
    mlx_array* outputs, const Output* wanted, std::size_t output_count, const mlx_array* inputs, std::size_t input_count,
    Kernel kernel, const std::uint8_t* parameters) {
  try {
    Parameters copied;
    std::memcpy(copied.data(), parameters, copied.size());
    std::vector<mx::Shape> shapes;
    std::vector<int> takes_over;
    for (std::size_t i = 0; i < output_count; ++i) {
      shapes.emplace_back(wanted[i].shape, wanted[i].shape + wanted[i].dimensions);
      takes_over.push_back(wanted[i].takes_over);
    }
    std::vector<mx::array> from;
    for (std::size_t i = 0; i < input_count; ++i) from.push_back(get(inputs[i]));
    auto stream = mx::default_stream(mx::Device(mx::Device::cpu));
    auto op = std::make_shared<HostOp>(stream, kernel, copied, std::move(takes_over));
    auto made = mx::array::make_arrays(
        std::move(shapes), std::vector<mx::Dtype>(output_count, mx::float32), op, std::move(from));
    for (std::size_t i = 0; i < output_count; ++i) outputs[i].ctx = new mx::array(std::move(made[i]));
    return 0;
  } catch (...) {
    return 1;
  }
}
