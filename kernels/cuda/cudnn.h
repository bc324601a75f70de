#pragma once

#include "kernels/plan/cudnn_problem.h"

#include <cstdint>
#include <unordered_map>

// The one door to cuDNN: graphs by its frontend, whose plans are built once a problem and kept. fp32 means
// fp32: plans that round inputs to TF32 or transform them (Winograd, Fourier) are not taken, nor any of a
// convolution whose bits depend on timing.
namespace tutti::cuda {

/// Names of the tensors of a problem.
enum CudnnTensor : int64_t {
  kImages = 1,  ///< x, or its gradient in ConvPass::kData
  kFilters,     ///< w (OHWI), or its gradient in ConvPass::kWeights
  kResults,     ///< y, or its gradient
  kQuery,
  kKey,
  kValue,
  kAttended,
  kStatistics,  ///< (batch, heads, positions) fp32, from forward to backward
  kAttendedGradient,
  kQueryGradient,
  kKeyGradient,
  kValueGradient,
};
using CudnnMemory = std::unordered_map<int64_t, void*>;

/// Whether cuDNN has a plan for the problem on the stream's device.
bool cudnn_has_plan(const CudnnProblem& problem, const Stream& stream);

/// Why cuDNN proposes no plan for the problem on a device that it is told of, not shown; empty if it does.
/// Needs no GPU, but libcuda, of which the toolkit's stub will do. `device` is JSON as cuDNN writes it
/// (CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION), `capability` 90 for compute capability 9.0. Throws Error if
/// this cuDNN does not understand `device`.
std::string cudnn_why_no_plan(const CudnnProblem& problem, const std::string& device, int capability);

/// Runs the problem; false, with nothing done, where cuDNN has no plan. Addresses are multiples of 16. The
/// first use of a convolution tries the most promising plans on this memory, whose outputs are overwritten,
/// and keeps the fastest, in autotune_directory() too.
[[nodiscard]] bool cudnn_run(const CudnnProblem& problem, CudnnMemory memory, const Stream& stream);

/// cuDNN takes 16 bytes of alignment for granted: `x`, or a copy where it is not so.
Tensor aligned(const Tensor& x, const Stream& stream);

}  // namespace tutti::cuda
