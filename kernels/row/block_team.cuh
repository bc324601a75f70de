#pragma once

#include "kernels/row/team.h"

// The teams of CUDA (kernels/row/team.h). The order of additions does not depend on timing.
namespace tutti {

namespace detail {

template <class T>
__device__ inline T warp_sum(T x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffffU, x, distance);
  return x;  // the same bits on all lanes, as a + b is b + a
}

template <class T>
__device__ inline T warp_max(T x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    const T other = __shfl_xor_sync(0xffffffffU, x, distance);
    x = other > x ? other : x;
  }
  return x;
}

}  // namespace detail

/// One warp; the block size of its kernel is a multiple of 32.
struct WarpTeam {
  static constexpr int kMaxLanes = 32;
  __device__ static int64_t lane() { return threadIdx.x % 32; }
  __device__ static constexpr int64_t lanes() { return 32; }
  template <class T>
  __device__ static T sum(T x) {
    __syncwarp();
    return detail::warp_sum(x);
  }
  template <class T>
  __device__ static T max(T x) {
    __syncwarp();
    return detail::warp_max(x);
  }
  __device__ static void barrier() { __syncwarp(); }
};

/// All threads of a block, a multiple of 32.
struct BlockTeam {
  static constexpr int kMaxLanes = 1024;
  __device__ static int64_t lane() { return threadIdx.x; }
  __device__ static int64_t lanes() { return blockDim.x; }
  template <class T>
  __device__ static T sum(T x) {
    return reduce(detail::warp_sum(x), T(0), [](T a) { return detail::warp_sum(a); });
  }
  template <class T>
  __device__ static T max(T x) {
    return reduce(detail::warp_max(x), x, [](T a) { return detail::warp_max(a); });
  }
  __device__ static void barrier() { __syncthreads(); }

 private:
  /// `of_warp` is the result of each warp, `neutral` the neutral element. Every warp reduces all results.
  template <class T, class AcrossWarp>
  __device__ static T reduce(T of_warp, T neutral, AcrossWarp across) {
    __shared__ T results[32];
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int warps = static_cast<int>(blockDim.x) / 32;
    if (lane == 0) results[threadIdx.x / 32] = of_warp;
    __syncthreads();
    const T result = across(lane < warps ? results[lane] : neutral);
    __syncthreads();  // all threads have read `results` before the next reduction writes it
    return result;
  }
};

}  // namespace tutti
