#pragma once

#include "kernels/cuda/softmax.h"
#include "kernels/row/softmax.h"

namespace tutti::cuda {

/// Rows of logits and their targets, for kernels.
template <class T, class I>
struct LogitRows {
  using A = Accumulate<T>;
  const T* logits;
  const I* targets;
  A* lse;
  int64_t n;        // classes
  int64_t columns;  // n and those of padding
  int64_t ignore_index;
  row::TargetWeights<A> weights;

  __device__ const T* row(int64_t r) const { return logits + r * columns; }
  __device__ bool ignored(int64_t r) const { return static_cast<int64_t>(targets[r]) == ignore_index; }
  __device__ bool is_class(int64_t r) const {
    return targets[r] >= 0 && static_cast<int64_t>(targets[r]) < n;
  }
  __device__ bool has_gradient(int64_t r) const { return !ignored(r) && is_class(r); }
  /// The gradient of a row without a valid target: 0 if it is ignored; NaN, the value of lse, if the target
  /// is out of range.
  __device__ A without_gradient(int64_t r) const { return ignored(r) ? A(0) : lse[r]; }
};

template <class T, class I>
LogitRows<T, I> logit_rows(const CrossEntropy& p) {
  using A = Accumulate<T>;
  return {.logits = p.logits.data<T>(),
          .targets = p.targets.data<I>(),
          .lse = p.lse.data<A>(),
          .n = p.classes,
          .columns = p.logits.size(-1),
          .ignore_index = p.ignore_index,
          .weights = {A(1 - p.smoothing), A(p.smoothing / static_cast<double>(p.classes))}};
}

}  // namespace tutti::cuda
