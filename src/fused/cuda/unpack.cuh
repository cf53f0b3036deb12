// Weights of 4 or 8 bits as 16-bit floats, for products of many rows: y = scale * value + bias.
namespace ridgepoint {

// `w` holds values of 4 or 8 bits, the lowest first; `scales` and `biases` have one for every GROUP of them. A thread writes
// eight values, U times, so that a warp's loads and stores lie side by side.
template <typename T, int BITS, int GROUP, int U>
__device__ __forceinline__ void unpack(
    const void* w, const T* scales, const T* biases, T* y, size_t eighths) {
  constexpr int WORDS = BITS / 4;
  const size_t first = size_t(blockIdx.x) * blockDim.x * U + threadIdx.x;
  unsigned q[U][WORDS];
  float scale[U], bias[U];
#pragma unroll
  for (int u = 0; u < U; ++u) {
    const size_t at = first + size_t(u) * blockDim.x;
    if (at >= eighths) break;
    stream<WORDS>(q[u], static_cast<const char*>(w) + at * BITS);
    scale[u] = to_float(scales[at * 8 / GROUP]);
    bias[u] = to_float(biases[at * 8 / GROUP]);
  }
#pragma unroll
  for (int u = 0; u < U; ++u) {
    const size_t at = first + size_t(u) * blockDim.x;
    if (at >= eighths) break;
    struct alignas(16) Eight { T values[8]; } out;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const unsigned value = q[u][i * BITS / 32] >> (i * BITS % 32) & ((1u << BITS) - 1);
      out.values[i] = from_float<T>(scale[u] * float(value) + bias[u]);
    }
    reinterpret_cast<Eight*>(y)[at] = out;
  }
}

}  // namespace ridgepoint
