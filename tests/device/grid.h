#pragma once

#include "cuda_runtime.h"

#include <functional>
#include <random>
#include <string>

namespace software_cuda {

using Random = std::mt19937_64;

struct Kernel {
  const void* function;
  dim3 blocks;
  dim3 threads;
  std::function<void()> body;  ///< called by each thread
};

/// Runs all threads of a kernel, in an order that `random` draws. Returns an empty string, or what was wrong:
/// threads that wait for each other for ever, or disagree about what they wait for.
std::string run_grid(const Kernel& kernel, Random& random);

/// The kernel and thread that run now, for messages about signals; nothing otherwise. Async-signal-safe.
const Kernel* running_kernel() noexcept;

}  // namespace software_cuda
