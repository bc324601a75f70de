#pragma once

#include <tutti/core/tape.h>
#include "kernels/cases/timed_case.h"

#include <functional>
#include <string>
#include <vector>

namespace tutti {

/// What can be timed: an operation with its inputs.
struct KernelWork {
  /// Runs forward on the tape; with a recording tape, what backward needs is kept.
  std::function<Var(Tape& tape)> forward;
  Tensor output_gradient;  ///< of forward's result; undefined: there is no backward
};

/// One operation at one size. Nothing is allocated before prepare().
struct KernelCase {
  std::string name;   ///< "layer_norm"
  std::string shape;  ///< "4096 x 384"
  Cost forward;
  Cost backward;
  std::function<KernelWork(const Stream& stream)> prepare;
};

/// All operations that training of the recipes spends its time in: the rows of kernels/cases at these sizes,
/// and what is no op of its own or in fp8. `dtype` is that of activations: fp32 or bf16.
std::vector<KernelCase> kernel_cases(const KernelSizes& sizes, DType dtype);

}  // namespace tutti
