#pragma once

#include <tutti/core/tensor.h>
#include "core/cuda/launch.h"
#include "kernels/row/block_team.cuh"
#include "kernels/row/pack.h"

#include <algorithm>

// Launches of CUDA kernels: shapes of grids, and kernels that call a functor for each element or a row
// program for each row. Functors are passed by value: structs with a __device__ call operator or __device__
// lambdas, which nvcc does not support inside generic lambdas: put them into a function template.
//
// "Memory traffic" in the comment of a kernel is the number of bytes that it reads and writes in global
// memory.
namespace tutti::cuda {

inline constexpr int kThreads = 256;  ///< threads of a block

/// Blocks for n threads, up to a maximum; kernels loop over their elements with the stride of the grid.
inline unsigned blocks_for(int64_t n) {
  return static_cast<unsigned>(std::clamp<int64_t>((n + kThreads - 1) / kThreads, 1, int64_t{1} << 20));
}

/// Blocks for rows of a block each, up to a maximum.
inline unsigned blocks_of_rows(int64_t rows) {
  return static_cast<unsigned>(std::min<int64_t>(rows, int64_t{1} << 20));
}

/// Throws Error unless the tensor is undefined or on the stream's device. `op` is named in the message.
inline void require_here(std::string_view op, const Tensor& tensor, const Stream& stream) {
  require(!tensor.defined() || tensor.device() == stream.device(),
          "{}: a tensor of shape {} is on {}, the stream on {}", op, to_string(tensor.shape()),
          tensor.defined() ? name(tensor.device()) : "", name(stream.device()));
}

/// Whether all pointers are null or aligned to 16 bytes.
template <class... Pointers>
bool aligned16(Pointers... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) % 16 == 0) && ...);
}

template <class F>
__global__ void __launch_bounds__(kThreads) elements_kernel(int64_t n, F f) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += step) f(i);
}

/// Calls f(i) for each i in [0, n), in parallel.
template <class F>
void for_elements(std::string_view kernel, int64_t n, const Stream& stream, F f) {
  if (n == 0) return;
  launch(kernel, stream, {blocks_for(n), kThreads}, elements_kernel<F>, n, f);
}

template <class F>
__global__ void __launch_bounds__(kThreads) warp_rows_kernel(int64_t rows, F f) {
  WarpTeam team;
  const int64_t step = int64_t{gridDim.x} * (blockDim.x / 32);
  for (int64_t r = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / 32; r < rows; r += step) f(team, r);
}

/// Tells the compiler that pointers which a kernel read from memory are to global memory: otherwise its loads
/// and stores find out each time. They may be null.
template <class... Pointers>
__device__ void known_global([[maybe_unused]] Pointers... pointers) {
#if defined(__CUDA_ARCH__)
  (__builtin_assume(pointers == nullptr || __isGlobal(pointers)), ...);
#endif
}

// The bound limits registers, so that a block of 1024 threads fits a multiprocessor.
template <class F>
__global__ void __launch_bounds__(BlockTeam::kMaxLanes) block_rows_kernel(int64_t rows, F f) {
  BlockTeam team;
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) f(team, r);
}

/// Calls f(team, row) for each row. The team is a warp for rows of up to 1024 elements, else a block.
template <class F>
void for_rows(std::string_view kernel, int64_t rows, int64_t width, const Stream& stream, F f) {
  if (rows == 0) return;
  if (width <= 1024) {
    launch(kernel, stream, {blocks_for(rows * 32), kThreads}, warp_rows_kernel<F>, rows, f);
  } else {
    const int threads = width <= 8192 ? 256 : width <= 32768 ? 512 : 1024;
    launch(kernel, stream, {blocks_of_rows(rows), threads}, block_rows_kernel<F>, rows, f);
  }
}

}  // namespace tutti::cuda
