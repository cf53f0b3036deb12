// Products of a few rows with a weight matrix that is read once, close to memory speed: y = x wT, and what follows it.
//
// A block makes MT tiles of 16 outputs; its warps share out the inputs and add up their parts in a fixed order. The tensor
// cores multiply 16 outputs by 8 rows at a time, so that 8 rows cost what one costs, and a row's result does not depend on
// the rows beside it.
namespace ridgepoint {

enum Epilogue { PLAIN, BIAS, RESIDUAL, SWIGLU };

// How many 32-bit words of a row a lane reads at a time, and what part of the row four lanes cover with them.
template <int BITS, int GROUP>
struct Piece {
  static constexpr int words = GROUP * BITS / 128;
  static constexpr int inputs = GROUP;
};
template <int GROUP>
struct Piece<16, GROUP> {
  static constexpr int words = 4;
  static constexpr int inputs = 32;
};

// `x` is [all, K] of T; the grid is (parts of 8 NT rows, tiles of outputs), so that blocks that read the same weights run side
// by side. `w` is [N, K]: T for 16 bits, else values of 4 or 8 bits, the lowest first, that
// stand for scale * value + bias with a scale and a bias for every GROUP inputs. `extra` is the bias [N], or the residual
// [all, N]. SWIGLU: `w` is [2 N, K], and y = silu(gate) * up, gate first. NORMED: the RMS norm of x with
// weights `norm` [K] is multiplied: x * norm is, and each row of the sums is scaled by 1 / sqrt(mean(x * x) + eps).
template <typename T, int BITS, int GROUP, int K, int N, int MT, int NT, int WARPS, int U, int EPILOGUE, bool NORMED>
__device__ __forceinline__ void product(
    const T* x, int all, const void* w, const T* scales, const T* biases, const T* extra, const T* norm, float eps, T* y) {
  using P = Piece<BITS, GROUP>;
  constexpr int PIECES = K / P::inputs;
  constexpr int TILES = EPILOGUE == SWIGLU ? MT / 2 : MT;
  static_assert(K % P::inputs == 0 && PIECES % U == 0 && N % (16 * TILES) == 0);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  const int first = blockIdx.y * 16 * TILES, above = blockIdx.x * 8 * NT, rows = min(8 * NT, all - above);
  auto tile = [&](int i) { return EPILOGUE == SWIGLU && i >= TILES ? N + first + 16 * (i - TILES) : first + 16 * i; };

  // Of the squares: products of every row with every row of its tile, of which those with itself count.
  float sums[MT][NT][4] = {}, squares[NORMED ? NT : 1][4] = {};
  const T* mine[NT];
  for (int n = 0; n < NT; ++n) mine[n] = x + size_t(above + min(8 * n + g, rows - 1)) * K + t * (P::inputs / 4);
  auto normed = [&](int n, int at, auto v) {
    if constexpr (NORMED) {
      square<T>(squares[n], v);
      v = times(v, *reinterpret_cast<const decltype(v)*>(norm + t * (P::inputs / 4) + at));
    }
    return v;
  };

  for (int piece = warp * U; piece < PIECES; piece += WARPS * U) {
    unsigned q[MT][2][U][P::words];
    T scale[MT][2][U], bias[MT][2][U];
#pragma unroll
    for (int i = 0; i < MT; ++i)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const size_t row = tile(i) + g + 8 * h;
        const char* from = static_cast<const char*>(w) + row * (size_t(K) * BITS / 8) + size_t(piece * 4 + t) * P::words * 4;
#pragma unroll
        for (int u = 0; u < U; ++u) stream<P::words>(q[i][h][u], from + u * P::words * 16);
        if constexpr (BITS < 16) {
          struct alignas(U * sizeof(T)) Some { T values[U]; };
          const Some s = *reinterpret_cast<const Some*>(scales + row * PIECES + piece);
          const Some b = *reinterpret_cast<const Some*>(biases + row * PIECES + piece);
#pragma unroll
          for (int u = 0; u < U; ++u) {
            scale[i][h][u] = s.values[u];
            bias[i][h][u] = b.values[u];
          }
        }
      }
#pragma unroll
    for (int u = 0; u < U; ++u) {
      if constexpr (BITS == 16) {
#pragma unroll
        for (int n = 0; n < NT; ++n) {
          const int at = (piece + u) * P::inputs;
          const uint4 b = normed(n, at, *reinterpret_cast<const uint4*>(mine[n] + at));
#pragma unroll
          for (int i = 0; i < MT; ++i) {
            auto& a = q[i];
            mma<T>(sums[i][n], a[0][u][0], a[1][u][0], a[0][u][1], a[1][u][1], b.x, b.y);
            mma<T>(sums[i][n], a[0][u][2], a[1][u][2], a[0][u][3], a[1][u][3], b.z, b.w);
          }
        }
      } else {
        // Products with the values as they are, and the sums of the inputs: scale and bias come after.
        float low[MT][NT][4] = {}, high[MT][NT][4] = {}, total[NT][4] = {};
        constexpr unsigned one = Float16<T>::ones;
#pragma unroll
        for (int word = 0; word < P::words; ++word) {
          unsigned b[NT][4];
#pragma unroll
          for (int n = 0; n < NT; ++n) {
            const int at = (piece + u) * P::inputs + word * (32 / BITS);
            if constexpr (BITS == 4) {
              const uint4 v = normed(n, at, *reinterpret_cast<const uint4*>(mine[n] + at));
              b[n][0] = __byte_perm(v.x, v.z, 0x5410);
              b[n][1] = __byte_perm(v.x, v.z, 0x7632);
              b[n][2] = __byte_perm(v.y, v.w, 0x5410);
              b[n][3] = __byte_perm(v.y, v.w, 0x7632);
              mma<T>(total[n], one, one, one, one, b[n][2], b[n][3]);
            } else {
              const uint2 v = normed(n, at, *reinterpret_cast<const uint2*>(mine[n] + at));
              b[n][0] = __byte_perm(v.x, v.y, 0x5410);
              b[n][1] = __byte_perm(v.x, v.y, 0x7632);
            }
            mma<T>(total[n], one, one, one, one, b[n][0], b[n][1]);
          }
#pragma unroll
          for (int i = 0; i < MT; ++i) {
            // Two of the eight nibbles of a word at a time, each as a float.
            unsigned a[2][4];
#pragma unroll
            for (int h = 0; h < 2; ++h)
#pragma unroll
              for (int pair = 0; pair < 4; ++pair)
                a[h][pair] = (q[i][h][u][word] >> (4 * pair) & 0x000f000fu) | Float16<T>::magic;
#pragma unroll
            for (int n = 0; n < NT; ++n) {
              if constexpr (BITS == 4) {
                mma<T>(low[i][n], a[0][0], a[1][0], a[0][1], a[1][1], b[n][0], b[n][1]);
                mma<T>(low[i][n], a[0][2], a[1][2], a[0][3], a[1][3], b[n][2], b[n][3]);
              } else {
                mma<T>(low[i][n], a[0][0], a[1][0], a[0][2], a[1][2], b[n][0], b[n][1]);
                mma<T>(high[i][n], a[0][1], a[1][1], a[0][3], a[1][3], b[n][0], b[n][1]);
              }
            }
          }
        }
        constexpr float offset = Float16<T>::offset * (BITS == 4 ? 1 : 17);
#pragma unroll
        for (int i = 0; i < MT; ++i)
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            const float s = to_float(scale[i][c / 2][u]), shift = to_float(bias[i][c / 2][u]) - offset * s;
#pragma unroll
            for (int n = 0; n < NT; ++n) {
              const float value = BITS == 4 ? low[i][n][c] : low[i][n][c] + 16 * high[i][n][c];
              sums[i][n][c] += s * value + shift * total[n][c];
            }
          }
      }
    }
  }

  // [row of x][output] of each warp, one after the other.
  constexpr int OUT = 16 * MT, STEP = OUT + 4;
  __shared__ float parts[WARPS][8 * NT][STEP];
#pragma unroll
  for (int i = 0; i < MT; ++i)
#pragma unroll
    for (int n = 0; n < NT; ++n)
#pragma unroll
      for (int c = 0; c < 4; ++c) parts[warp][8 * n + 2 * t + c % 2][16 * i + g + 8 * (c / 2)] = sums[i][n][c];
  __shared__ float parts_of_squares[WARPS][8 * NT];
  if constexpr (NORMED)
#pragma unroll
    for (int n = 0; n < NT; ++n)
      if (t == g / 2) parts_of_squares[warp][8 * n + g] = g % 2 ? squares[n][1] : squares[n][0];
  __syncthreads();
  auto sum = [&](int row, int output) {
    float value = 0;
#pragma unroll
    for (int part = 0; part < WARPS; ++part) value += parts[part][row][output];
    return value;
  };
  auto scale_of = [&](int row) {
    float value = 0;
#pragma unroll
    for (int part = 0; part < WARPS; ++part) value += parts_of_squares[part][row];
    return rsqrtf(value / K + eps);
  };
  for (int place = threadIdx.x; place < rows * 16 * TILES; place += 32 * WARPS) {
    const int row = place / (16 * TILES), output = place % (16 * TILES);
    const size_t to = size_t(above + row) * N + first + output;
    const float scale = NORMED ? scale_of(row) : 1;
    float value = scale * sum(row, output);
    if constexpr (EPILOGUE == BIAS) value += to_float(extra[first + output]);
    if constexpr (EPILOGUE == RESIDUAL) value += to_float(extra[to]);
    if constexpr (EPILOGUE == SWIGLU) value = value / (1 + __expf(-value)) * (scale * sum(row, output + 16 * TILES));
    y[to] = from_float<T>(value);
  }
}

}  // namespace ridgepoint
