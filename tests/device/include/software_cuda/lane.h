#pragma once

// CUDA C++ in the language of the host: what kernels use besides ordinary C++.

#include <math.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __host__
// One block runs at a time, so that its shared variables can have static storage.
#define __shared__ static
#define __launch_bounds__(...)

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace software_cuda {

/// Of the thread of a kernel that runs.
struct Position {
  uint3 thread;
  uint3 block;
  dim3 threads;
  dim3 blocks;
};
extern Position position;

void block_barrier();
void warp_barrier(unsigned mask);
/// Gives `bytes` (at most 16) of each lane in `mask` to the others; returns those of lane `from` of the warp.
const void* exchange(unsigned mask, const void* value, size_t bytes, unsigned from);
unsigned lane_of_warp();
unsigned reduce_max(unsigned mask, unsigned value);
// For the race detector, which is told of accesses of instrumented kernels by the compiler.
void access_atomically(const void* memory, size_t bytes);
void access(const void* memory, size_t bytes, bool writes);

}  // namespace software_cuda

inline constexpr uint3& threadIdx = software_cuda::position.thread;
inline constexpr uint3& blockIdx = software_cuda::position.block;
inline constexpr dim3& blockDim = software_cuda::position.threads;
inline constexpr dim3& gridDim = software_cuda::position.blocks;

// The compiler reports no accesses of these.
#if defined(__clang__)
#  define TUTTI_UNREPORTED __attribute__((noinline, no_sanitize("coverage")))
#else
#  define TUTTI_UNREPORTED
#endif

inline void __syncthreads() {
  software_cuda::block_barrier();
}
inline void __syncwarp(unsigned mask = 0xffffffffU) {
  software_cuda::warp_barrier(mask);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int other) {
  static_assert(sizeof(T) <= 16);
  T result;
  std::memcpy(&result,
              software_cuda::exchange(mask, &value, sizeof value,
                                      software_cuda::lane_of_warp() ^ static_cast<unsigned>(other)),
              sizeof result);
  return result;
}
inline unsigned __reduce_max_sync(unsigned mask, unsigned value) {
  return software_cuda::reduce_max(mask, value);
}

// All blocks run on one thread.
TUTTI_UNREPORTED inline unsigned atomicMax(unsigned* address, unsigned value) {
  software_cuda::access_atomically(address, sizeof *address);
  const unsigned before = *address;
  if (value > before) *address = value;
  return before;
}
/// As a volatile access, which may run beside atomic ones.
TUTTI_UNREPORTED inline unsigned __ldcv(const unsigned* address) {
  software_cuda::access_atomically(address, sizeof *address);
  return *address;
}

inline unsigned __float_as_uint(float x) {
  return std::bit_cast<unsigned>(x);
}

inline int max(int a, int b) {
  return a > b ? a : b;
}
inline int min(int a, int b) {
  return a < b ? a : b;
}
inline unsigned max(unsigned a, unsigned b) {
  return a > b ? a : b;
}
inline unsigned min(unsigned a, unsigned b) {
  return a < b ? a : b;
}
