#pragma once

#include "kernels/plan/conv.h"

#include <string>
#include <variant>

// Descriptions of problems for cuDNN. Needs no CUDA, so that it can be tested without it.
namespace tutti {

enum class ConvPass : uint8_t { kForward, kData, kWeights };

/// One pass of a convolution of NHWC images with OHWI filters.
struct ConvProblem {
  ConvPass pass = ConvPass::kForward;
  ConvShape shape;
  DType weights = DType::kFloat32;  ///< dtype of the filters or their gradient
};

/// Attention of packed q | k | v in bf16: (batch, positions, (heads + 2 kv_heads) head_dim), as in
/// kernels/attention.h.
struct AttentionProblem {
  int64_t batch = 0, positions = 0, heads = 0, kv_heads = 0, head_dim = 0;
  bool causal = true;
  double scale = 1;
  bool backward = false;
  bool saves = false;  ///< forward: writes the statistics that backward needs
  /// Backward: results do not depend on timing. On Hopper this needs batch * heads * positions^2 * 2 bytes of
  /// workspace, and is slower.
  bool deterministic = false;

  /// Elements from one position to the next.
  [[nodiscard]] int64_t width() const { return (heads + 2 * kv_heads) * head_dim; }
};

using CudnnProblem = std::variant<ConvProblem, AttentionProblem>;

/// A key for files and caches; different problems have different keys.
std::string key(const CudnnProblem& problem);

/// Sizes and strides, in elements, in cuDNN's order of dims.
struct CudnnLayout {
  std::vector<int64_t> sizes, strides;
};
/// NHWC memory in cuDNN's order (N, C, H, W).
CudnnLayout image_layout(int64_t n, int64_t h, int64_t w, int64_t c);
/// Heads in rows that are `width` elements apart, in the order (batch, heads, positions, head_dim).
CudnnLayout head_layout(const AttentionProblem& problem, int64_t heads, int64_t width);

}  // namespace tutti
