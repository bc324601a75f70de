#include "core/cuda/launch.h"

namespace tutti::cuda {

void check_grid(std::string_view kernel, const Grid& grid) {
  const auto& [blocks, threads] = grid;
  const auto in = [](unsigned n, unsigned most) { return n >= 1 && n <= most; };
  // In 64 bits: products of sizes wrap.
  const uint64_t of_block = uint64_t{threads.x} * threads.y * threads.z;
  require(in(blocks.x, 0x7fffffffU) && in(blocks.y, 65535) && in(blocks.z, 65535) && threads.z <= 64 &&
              of_block >= 1 && of_block <= 1024,
          "the launch of kernel '{}': a grid of {} x {} x {} blocks of {} x {} x {} threads is outside the "
          "limits of CUDA",
          kernel, blocks.x, blocks.y, blocks.z, threads.x, threads.y, threads.z);
}

void check_launched(std::string_view kernel, cudaError_t status) {
  if (status != cudaSuccess) check(status, fmt::format("the launch of kernel '{}'", kernel));
  remember_kernel(kernel);
}

}  // namespace tutti::cuda
