#pragma once

#include <tutti/core/tensor.h>
#include "core/cuda/runtime.h"
#include "kernels/row/block_team.cuh"
#include "kernels/row/pack.h"

#include <algorithm>

// What the launches of CUDA kernels share: shapes of grids, and kernels that run a functor for each element
// or a row program for each row. Functors are passed by value: structs with a __device__ call operator or
// __device__ lambdas (which nvcc does not take inside generic lambdas: give them a function template).
namespace tutti::cuda {

inline constexpr int kThreads = 256;  ///< of a block

/// Blocks for n threads. Kernels stride over what a grid of this bounded size leaves.
inline unsigned blocks_for(int64_t n) {
  return static_cast<unsigned>(std::clamp<int64_t>((n + kThreads - 1) / kThreads, 1, int64_t{1} << 20));
}

/// Throws Error naming `op` unless the tensor is on the stream's device; undefined tensors pass.
inline void require_here(std::string_view op, const Tensor& tensor, const Stream& stream) {
  require(!tensor.defined() || tensor.device() == stream.device(),
          "{}: a tensor of shape {} is on {}, the stream on {}", op, to_string(tensor.shape()),
          tensor.defined() ? name(tensor.device()) : "", name(stream.device()));
}

/// Whether all of the pointers can be read 16 bytes at a time; null passes.
template <class... Pointers>
bool aligned16(Pointers... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) % 16 == 0) && ...);
}

template <class F>
__global__ void __launch_bounds__(kThreads) elements_kernel(int64_t n, F f) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += step) f(i);
}

/// Calls f(i) for i in [0, n), each on its own thread.
template <class F>
void for_elements(std::string_view kernel, int64_t n, const Stream& stream, F f) {
  if (n == 0) return;
  const UseDevice use(stream.device().index);
  elements_kernel<<<blocks_for(n), kThreads, 0, native(stream)>>>(n, f);
  check_launch(kernel);
}

template <class F>
__global__ void __launch_bounds__(kThreads) warp_rows_kernel(int64_t rows, F f) {
  WarpTeam team;
  const int64_t step = int64_t{gridDim.x} * (blockDim.x / 32);
  for (int64_t r = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / 32; r < rows; r += step) f(team, r);
}

// The bound keeps the registers of up to 1024 threads within a multiprocessor's.
template <class F>
__global__ void __launch_bounds__(BlockTeam::kMaxLanes) block_rows_kernel(int64_t rows, F f) {
  BlockTeam team;
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) f(team, r);
}

/// Calls f(team, row) for each row: a warp for rows of up to 1024 elements, else a block.
template <class F>
void for_rows(std::string_view kernel, int64_t rows, int64_t width, const Stream& stream, F f) {
  if (rows == 0) return;
  const UseDevice use(stream.device().index);
  if (width <= 1024) {
    warp_rows_kernel<<<blocks_for(rows * 32), kThreads, 0, native(stream)>>>(rows, f);
  } else {
    const int threads = width <= 8192 ? 256 : width <= 32768 ? 512 : 1024;
    const auto blocks = static_cast<unsigned>(std::min<int64_t>(rows, int64_t{1} << 20));
    block_rows_kernel<<<blocks, threads, 0, native(stream)>>>(rows, f);
  }
  check_launch(kernel);
}

}  // namespace tutti::cuda
