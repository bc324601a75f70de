#pragma once

#include <tutti/core/tensor.h>

#include <array>

namespace tutti {

/// Sizes and strides with which `count` contiguous tensors broadcast to one shape; dims are merged where all
/// tensors allow it. The strides of the last dim are 0 or 1.
template <int count>
struct BroadcastPlan {
  Shape sizes;                               // outermost first, at least one dim
  std::array<Shape, size_t{count}> strides;  // of each tensor
  [[nodiscard]] int64_t inner() const { return sizes.back(); }
  [[nodiscard]] int64_t rows() const {
    int64_t rows = 1;
    for (size_t d = 0; d + 1 < sizes.size(); ++d) rows *= sizes[d];
    return rows;
  }
};

template <int count>
BroadcastPlan<count> plan_broadcast(const Shape& shape,
                                    const std::array<const Shape*, size_t{count}>& shapes) {
  BroadcastPlan<count> plan;
  std::array<Shape, size_t{count}> strides;
  for (size_t k = 0; k < count; ++k) {
    const Shape own = contiguous_strides(*shapes[k]);
    const size_t missing = shape.size() - own.size();
    for (size_t d = 0; d < shape.size(); ++d) {
      const bool repeats = d < missing || (*shapes[k])[d - missing] == 1;
      strides[k].push_back(repeats ? 0 : own[d - missing]);
    }
  }
  for (size_t d = 0; d < shape.size(); ++d) {
    if (shape[d] == 1) continue;
    bool merge = !plan.sizes.empty();
    for (size_t k = 0; k < count && merge; ++k) merge = plan.strides[k].back() == strides[k][d] * shape[d];
    if (!merge) plan.sizes.push_back(1);
    plan.sizes.back() *= shape[d];
    for (size_t k = 0; k < count; ++k) {
      if (!merge) plan.strides[k].push_back(0);
      plan.strides[k].back() = strides[k][d];
    }
  }
  if (plan.sizes.empty()) {
    plan.sizes.push_back(1);
    for (Shape& s : plan.strides) s.push_back(1);
  }
  return plan;
}

}  // namespace tutti
