// What the kernels share: 16-bit floats, the tensor cores' product, and vector loads.

// MLX declares the kernel and leaves no room for its bounds. They give the compiler the registers to have many loads under way,
// or keep it from so many that only one block fits a multiprocessor.
#ifndef RIDGEPOINT_BLOCKS
#define RIDGEPOINT_BLOCKS 1
#endif
#undef __global__
#define __global__ __attribute__((global)) __launch_bounds__(256, RIDGEPOINT_BLOCKS)

namespace ridgepoint {

template <typename T>
struct Float16 {
  static constexpr bool brain = false;
  static constexpr unsigned ones = 0x3c003c00;
  // 1024 + n for a nibble n in the last bits.
  static constexpr unsigned magic = 0x64006400;
  static constexpr float offset = 1024;
};

template <>
struct Float16<__nv_bfloat16> {
  static constexpr bool brain = true;
  static constexpr unsigned ones = 0x3f803f80;
  // 128 + n
  static constexpr unsigned magic = 0x43004300;
  static constexpr float offset = 128;
};

template <typename T>
__device__ __forceinline__ T from_float(float value) {
  if constexpr (Float16<T>::brain) return __float2bfloat16(value);
  else return __float2half(value);
}

__device__ __forceinline__ float to_float(__nv_bfloat16 value) { return __bfloat162float(value); }
__device__ __forceinline__ float to_float(__half value) { return __half2float(value); }

// c += a b: 16 x 16 by 16 x 8. Lane 4g+t holds of a: rows g and g+8 of columns 2t.., then of columns 8+2t..; of b: rows 2t.. and
// 8+2t.. of column g; of c: columns 2t.. of row g, then of row g+8.
template <typename T>
__device__ __forceinline__ void mma(
    float (&c)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
  if constexpr (Float16<T>::brain)
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  else
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// Products of pairs of brain floats, which have none without a sum before Hopper.
__device__ __forceinline__ unsigned times(unsigned a, unsigned b) {
  unsigned c;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(c) : "r"(a), "r"(b), "r"(0x80008000u));
  return c;
}
__device__ __forceinline__ uint2 times(uint2 a, uint2 b) { return {times(a.x, b.x), times(a.y, b.y)}; }
__device__ __forceinline__ uint4 times(uint4 a, uint4 b) {
  return {times(a.x, b.x), times(a.y, b.y), times(a.z, b.z), times(a.w, b.w)};
}

// c += products of each of 8 rows with each of them; lane 4g+t has 4 or 8 values of row g. That of row g with itself is in c[g % 2] of
// lane 4g + g/2.
template <typename T>
__device__ __forceinline__ void square(float (&c)[4], uint2 v) {
  mma<T>(c, v.x, 0u, v.y, 0u, v.x, v.y);
}
template <typename T>
__device__ __forceinline__ void square(float (&c)[4], uint4 v) {
  square<T>(c, uint2{v.x, v.y});
  square<T>(c, uint2{v.z, v.w});
}

// Words that are read once: they pass by the first-level cache, which keeps what is read again.
template <int WORDS>
__device__ __forceinline__ void stream(unsigned* to, const void* from) {
  if constexpr (WORDS >= 4) {
    asm volatile(
        "ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
        : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
        : "l"(from));
    if constexpr (WORDS > 4) stream<WORDS - 4>(to + 4, static_cast<const char*>(from) + 16);
  } else if constexpr (WORDS == 2) {
    asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0,%1}, [%2];" : "=r"(to[0]), "=r"(to[1]) : "l"(from));
  } else {
    asm volatile("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(to[0]) : "l"(from));
  }
}

}  // namespace ridgepoint
