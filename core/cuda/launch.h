#pragma once

#include "core/cuda/runtime.h"

#include <type_traits>

// The only way in which kernels are launched. Included by *.cu files.
namespace tutti::cuda {

/// The shape of a launch. Blocks or threads along dimensions that are not given: 1.
struct Grid {
  dim3 blocks;
  dim3 threads;
};

/// Throws Error, naming the kernel, unless the grid is within the limits of CUDA: 2^31 - 1 x 65535 x 65535
/// blocks of at most 1024 threads (at most 64 along z), and none of them is 0.
void check_grid(std::string_view kernel, const Grid& grid);
/// Throws Error, naming the kernel, unless `status` is cudaSuccess. Remembers the name for check().
void check_launched(std::string_view kernel, cudaError_t status);

/// Launches `kernel`, a __global__ function, on a stream and its device. `name` stands for it in error
/// messages. Throws Error if the grid is outside CUDA's limits or the launch fails.
template <class... Parameters>
void launch(std::string_view name, const Stream& stream, const Grid& grid, void (*kernel)(Parameters...),
            const std::type_identity_t<Parameters>&... arguments) {
  check_grid(name, grid);
  const UseDevice use(stream.device().index);
  cudaLaunchConfig_t config{};
  config.gridDim = grid.blocks;
  config.blockDim = grid.threads;
  config.stream = native(stream);
  check_launched(name, cudaLaunchKernelEx(&config, kernel, arguments...));
}

}  // namespace tutti::cuda
