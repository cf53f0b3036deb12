// Attention of a few new tokens over the cache: head norms, rotary embedding, the cache's update, scores, softmax, values.
//
// A block takes PIECES pieces of 64 places of the cache for the query heads of one key head, and up to 32 of their rows; the
// last block of a head puts the parts together in the order of places. A row's result does not depend on how many tokens
// came with it: places that it does not see count exactly nothing.
namespace ridgepoint {

template <typename T, int D, int QUERIES, int KEYS, bool NORMED>
struct Heads {
  static constexpr int HALF = D / 2;
  const T* qkv;
  const float* frequencies;
  float eps;

  // One head of one token with norm and rotary embedding, by one warp. Heads are numbered queries first, then keys.
  __device__ __forceinline__ void rotated(size_t token, int head, const T* norm, int position, T* to, T* also) const {
    const T* from = qkv + (token * (QUERIES + 2 * KEYS) + head) * D;
    const int lane = threadIdx.x % 32;
    float left[HALF / 32], right[HALF / 32];
#pragma unroll
    for (int i = 0; i < HALF / 32; ++i) {
      left[i] = to_float(from[lane + 32 * i]);
      right[i] = to_float(from[lane + 32 * i + HALF]);
    }
    if constexpr (NORMED) {
      float squares = 0;
#pragma unroll
      for (int i = 0; i < HALF / 32; ++i) squares += left[i] * left[i] + right[i] * right[i];
#pragma unroll
      for (int step = 16; step > 0; step /= 2) squares += __shfl_xor_sync(~0u, squares, step);
      const float scale = rsqrtf(squares / D + eps);
#pragma unroll
      for (int i = 0; i < HALF / 32; ++i) {
        left[i] = to_float(from_float<T>(left[i] * scale * to_float(norm[lane + 32 * i])));
        right[i] = to_float(from_float<T>(right[i] * scale * to_float(norm[lane + 32 * i + HALF])));
      }
    }
#pragma unroll
    for (int i = 0; i < HALF / 32; ++i) {
      float sine, cosine;
      sincosf(position * frequencies[lane + 32 * i], &sine, &cosine);
      const T a = from_float<T>(left[i] * cosine - right[i] * sine), b = from_float<T>(right[i] * cosine + left[i] * sine);
      to[lane + 32 * i] = a;
      to[lane + 32 * i + HALF] = b;
      if (also) {
        also[lane + 32 * i] = a;
        also[lane + 32 * i + HALF] = b;
      }
    }
  }
};

// `qkv` is [batch, width, (QUERIES + 2 KEYS) D], `keys` and `values` [batch, KEYS, capacity, D] with `held` tokens, `y`
// [batch, width, QUERIES D]. The grid is (parts, KEYS, batch * tiles) of 128 threads, tiles of 32 / (QUERIES / KEYS) tokens,
// parts of 64 PIECES places. `partial` holds 32 (D + 2) floats for each block, `turns` a zero for each (key head, tile).
template <typename T, int D, int QUERIES, int KEYS, int PIECES, bool NORMED>
__device__ __forceinline__ void attention(
    const T* qkv, int width, T* keys, T* values, int capacity, const float* frequencies, const T* query_norm,
    const T* key_norm, float eps, int held, unsigned* turns, float* partial, T* y) {
  constexpr int GROUP = QUERIES / KEYS, TOKENS = 32 / GROUP, STEP = D + 8, PLACES = 64, PSTEP = PLACES + 8, COLUMNS = D / 32;
  static_assert(GROUP <= 32 && (D == 64 || D == 128));
  const float infinite = __int_as_float(0x7f800000);
  const Heads<T, D, QUERIES, KEYS, NORMED> heads{qkv, frequencies, eps};
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  const int head = blockIdx.y, tiles = (width + TOKENS - 1) / TOKENS;
  const int sequence = blockIdx.z / tiles, first = blockIdx.z % tiles * TOKENS;
  const int tokens = min(TOKENS, width - first), rows = tokens * GROUP;
  const size_t token0 = size_t(sequence) * width;
  T* const head_keys = keys + (size_t(sequence) * KEYS + head) * capacity * D;
  T* const head_values = values + (size_t(sequence) * KEYS + head) * capacity * D;

  __shared__ alignas(16) T k[PLACES][STEP];
  __shared__ alignas(16) T v[PLACES][STEP];
  __shared__ alignas(16) T q[32][STEP];
  __shared__ T p[32][PSTEP];
  __shared__ float across[4][32];
  __shared__ bool last;

  // Two tiles of 16 rows; row g + 8 h of each is this lane's.
  float highest[2][2], total[2][2] = {}, out[2][COLUMNS][4] = {};
  for (auto& tile : highest)
    for (auto& value : tile) value = -infinite;
  const float scale = rsqrtf(float(D)) * 1.44269504f;

  for (int piece = 0; piece < PIECES; ++piece) {
    const int from = (blockIdx.x * PIECES + piece) * PLACES;
    if (from >= held + width) break;
    // Keys and values that are there already come while the new ones are made.
    for (int place = threadIdx.x; place < PLACES * (D / 8); place += 128) {
      const int row = place / (D / 8), at = place % (D / 8) * 8;
      if (from + row < held) {
        const size_t offset = size_t(from + row) * D + at;
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(unsigned(__cvta_generic_to_shared(&k[row][at]))),
                     "l"(head_keys + offset));
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(unsigned(__cvta_generic_to_shared(&v[row][at]))),
                     "l"(head_values + offset));
      } else if (from + row >= held + width) {
        *reinterpret_cast<uint4*>(&k[row][at]) = uint4{0, 0, 0, 0};
        *reinterpret_cast<uint4*>(&v[row][at]) = uint4{0, 0, 0, 0};
      }
    }
    if (piece == 0)
      for (int row = warp; row < 32; row += 4) {
        if (row < rows) {
          const int token = first + row / GROUP;
          heads.rotated(token0 + token, head * GROUP + row % GROUP, query_norm, held + token, q[row], nullptr);
        } else {
          for (int at = lane; at < D; at += 32) q[row][at] = from_float<T>(0);
        }
      }
    for (int place = max(held, from) + warp; place < min(held + width, from + PLACES); place += 4) {
      const int token = place - held, row = place - from;
      // Every tile of tokens needs them; the first one stores them.
      T* const to = first == 0 ? head_keys + size_t(place) * D : nullptr;
      heads.rotated(token0 + token, QUERIES + head, key_norm, place, k[row], to);
      const T* value = qkv + ((token0 + token) * (QUERIES + 2 * KEYS) + QUERIES + KEYS + head) * D;
      for (int at = lane; at < D; at += 32) {
        v[row][at] = value[at];
        if (first == 0) head_values[size_t(place) * D + at] = value[at];
      }
    }
    asm volatile("cp.async.wait_all;");
    __syncthreads();

    // Scores of this warp's 16 places, in powers of two.
    float s[2][2][4] = {};
#pragma unroll
    for (int at = 0; at < D; at += 16) {
      auto word = [&](const T* row, int column) { return *reinterpret_cast<const unsigned*>(row + at + 2 * t + column); };
#pragma unroll
      for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          const T *a = q[16 * i + g], *b = q[16 * i + g + 8], *c = k[16 * warp + 8 * n + g];
          mma<T>(s[i][n], word(a, 0), word(b, 0), word(a, 8), word(b, 8), word(c, 0), word(c, 8));
        }
    }
    float best[2][2];
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int row = 16 * i + g + 8 * h, seen = row < rows ? held + first + row / GROUP : -1;
        best[i][h] = -infinite;
#pragma unroll
        for (int n = 0; n < 2; ++n)
#pragma unroll
          for (int c = 0; c < 2; ++c) {
            float& score = s[i][n][2 * h + c];
            score = from + 16 * warp + 8 * n + 2 * t + c <= seen ? score * scale : -infinite;
            best[i][h] = fmaxf(best[i][h], score);
          }
        best[i][h] = fmaxf(best[i][h], __shfl_xor_sync(~0u, best[i][h], 1));
        best[i][h] = fmaxf(best[i][h], __shfl_xor_sync(~0u, best[i][h], 2));
        if (t == 0) across[warp][row] = best[i][h];
      }
    __syncthreads();
    float fade[2][2];
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int row = 16 * i + g + 8 * h;
        const float now = fmaxf(
            highest[i][h], fmaxf(fmaxf(across[0][row], across[1][row]), fmaxf(across[2][row], across[3][row])));
        // Nothing seen so far: nothing to fade, and every weight is 0.
        fade[i][h] = now == -infinite ? 1 : exp2f(highest[i][h] - now);
        highest[i][h] = now;
      }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int row = 16 * i + g + 8 * h;
        float sum = 0;
#pragma unroll
        for (int n = 0; n < 2; ++n)
#pragma unroll
          for (int c = 0; c < 2; ++c) {
            const float weight = highest[i][h] == -infinite ? 0 : exp2f(s[i][n][2 * h + c] - highest[i][h]);
            sum += weight;
            p[row][16 * warp + 8 * n + 2 * t + c] = from_float<T>(weight);
          }
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        if (t == 0) across[warp][row] = sum;
      }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int row = 16 * i + g + 8 * h;
        total[i][h] = total[i][h] * fade[i][h] + (across[0][row] + across[1][row] + across[2][row] + across[3][row]);
#pragma unroll
        for (int n = 0; n < COLUMNS; ++n) {
          out[i][n][2 * h] *= fade[i][h];
          out[i][n][2 * h + 1] *= fade[i][h];
        }
      }
    }
    // Values: this warp's quarter of the head's columns.
#pragma unroll
    for (int at = 0; at < PLACES; at += 16)
#pragma unroll
      for (int n = 0; n < COLUMNS; ++n) {
        unsigned b0, b1;
        const unsigned row = __cvta_generic_to_shared(&v[at + lane % 16][warp * (D / 4) + 8 * n]);
        asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];" : "=r"(b0), "=r"(b1) : "r"(row));
        auto word = [&](const T* row, int column) { return *reinterpret_cast<const unsigned*>(row + at + 2 * t + column); };
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const T *a = p[16 * i + g], *b = p[16 * i + g + 8];
          mma<T>(out[i][n], word(a, 0), word(b, 0), word(a, 8), word(b, 8), b0, b1);
        }
      }
    __syncthreads();
  }

  const int parts = gridDim.x;
  auto to = [&](int row) {
    return y + ((token0 + first + row / GROUP) * QUERIES + head * GROUP + row % GROUP) * D;
  };
  constexpr int SIZE = 32 * (D + 2);
  float* const mine = partial + (size_t(blockIdx.z) * KEYS + head) * parts * SIZE;
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = 16 * i + g + 8 * h;
      if (row >= rows) continue;
      float* const part = mine + blockIdx.x * SIZE;
#pragma unroll
      for (int n = 0; n < COLUMNS; ++n) {
        const int column = warp * (D / 4) + 8 * n + 2 * t;
        *reinterpret_cast<float2*>(part + row * D + column) = float2{out[i][n][2 * h], out[i][n][2 * h + 1]};
      }
      if (warp == 0 && t == 0) {
        part[32 * D + 2 * row] = highest[i][h];
        part[32 * D + 2 * row + 1] = total[i][h];
      }
    }
  __threadfence();
  __syncthreads();
  unsigned* const turn = turns + size_t(blockIdx.z) * KEYS + head;
  if (threadIdx.x == 0) last = atomicAdd(turn, 1u) == unsigned(parts - 1);
  __syncthreads();
  if (!last) return;
  __threadfence();
  if (threadIdx.x == 0) *turn = 0;

  // What each part counts for in each row: at most 64 parts.
  float(*const weight)[65] = reinterpret_cast<float(*)[65]>(&k[0][0]);
  static_assert(sizeof(k) >= sizeof(float[32][65]));
  for (int row = threadIdx.x; row < rows; row += 128) {
    float high = -infinite, sum = 0;
    for (int part = 0; part < parts; ++part) high = fmaxf(high, __ldcg(mine + part * SIZE + 32 * D + 2 * row));
    for (int part = 0; part < parts; ++part) {
      const float2 of = __ldcg(reinterpret_cast<const float2*>(mine + part * SIZE + 32 * D + 2 * row));
      weight[row][part] = exp2f(of.x - high);
      sum += weight[row][part] * of.y;
    }
    for (int part = 0; part < parts; ++part) weight[row][part] /= sum;
  }
  __syncthreads();
  for (int place = threadIdx.x; place < rows * (D / 4); place += 128) {
    const int row = place / (D / 4), column = place % (D / 4) * 4;
    float4 sum = {0, 0, 0, 0};
#pragma unroll 8
    for (int part = 0; part < parts; ++part) {
      const float4 of = __ldcg(reinterpret_cast<const float4*>(mine + part * SIZE + row * D + column));
      const float by = weight[row][part];
      sum.x += by * of.x;
      sum.y += by * of.y;
      sum.z += by * of.z;
      sum.w += by * of.w;
    }
    T* const at = to(row) + column;
    at[0] = from_float<T>(sum.x);
    at[1] = from_float<T>(sum.y);
    at[2] = from_float<T>(sum.z);
    at[3] = from_float<T>(sum.w);
  }
}

}  // namespace ridgepoint
