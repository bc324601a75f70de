#pragma once

#include "kernels/plan/cudnn_problem.h"

#include <cstdint>
#include <unordered_map>

// All calls of cuDNN go through this file. Its graphs are made with cudnn-frontend; the plan of each problem
// is built once and cached. fp32 is computed in fp32: plans that round inputs to TF32 or transform them
// (Winograd, Fourier) are not used. Nor are plans of convolutions whose results depend on timing.
namespace tutti::cuda {

/// Identifiers of the tensors of a problem.
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

/// Why cuDNN proposes no plan for the problem on the described device; empty if it proposes one. Needs no
/// GPU; needs libcuda, or the toolkit's stub of it. `device` is JSON as cuDNN writes it
/// (CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION), `capability` is 90 for compute capability 9.0. Throws Error
/// if this version of cuDNN cannot parse `device`.
std::string cudnn_why_no_plan(const CudnnProblem& problem, const std::string& device, int capability);

/// Runs the problem. Returns false, and leaves its outputs undefined, if cuDNN has no plan that runs: one
/// that could be built but fails is replaced by the next for all later calls. Throws Error if that happens
/// while a graph is captured, or if the device has failed. Addresses are multiples of 16. A convolution of
/// 5 GFLOP or more is autotuned on first use: the plans that cuDNN estimates to be the fastest are measured
/// on this memory, overwriting its outputs, and the choice is cached, also in autotune_directory().
[[nodiscard]] bool cudnn_run(const CudnnProblem& problem, CudnnMemory memory, const Stream& stream);

/// The milliseconds that the plan of an autotuned convolution takes, measured as in cudnn_run(); infinite if
/// there is none or nothing is measured.
[[nodiscard]] float cudnn_measured(const CudnnProblem& problem, CudnnMemory memory, const Stream& stream);

/// `x`, or a copy if its address is not a multiple of 16, which cuDNN requires.
inline Tensor aligned(const Tensor& x, const Stream& stream) {
  return reinterpret_cast<uintptr_t>(x.raw()) % 16 == 0 ? x : x.clone(stream);
}

}  // namespace tutti::cuda
