#pragma once

#include <tutti/kernels/cpu/ranges.h>
#include <tutti/kernels/row/team.h>

#include <array>

namespace tutti {

/// How `count` contiguous tensors broadcast to one shape, with dims merged where all of them allow it. The
/// last dim's strides are 0 or 1.
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

namespace detail {

// One loop for each pattern of inner strides, so that each becomes plain vector code.
template <class T, class F>
void broadcast_row(const std::array<const T*, 2>& in, const std::array<int64_t, 2>& step, T* out, int64_t n,
                   F f) {
  using A = Accumulate<T>;
  const T* a = in[0];
  const T* b = in[1];
  if (step[0] != 0 && step[1] != 0) {
    INDEPENDENT_LOOP
    for (int64_t i = 0; i < n; ++i) out[i] = T(f(A(a[i]), A(b[i])));
  } else if (step[0] != 0) {
    const A right = A(*b);
    INDEPENDENT_LOOP
    for (int64_t i = 0; i < n; ++i) out[i] = T(f(A(a[i]), right));
  } else if (step[1] != 0) {
    const A left = A(*a);
    INDEPENDENT_LOOP
    for (int64_t i = 0; i < n; ++i) out[i] = T(f(left, A(b[i])));
  } else {
    const T value = T(f(A(*a), A(*b)));
    for (int64_t i = 0; i < n; ++i) out[i] = value;
  }
}

// The first operand always has a stride: it is the gradient of the result.
template <class T, class F>
void broadcast_row(const std::array<const T*, 3>& in, const std::array<int64_t, 3>& step, T* out, int64_t n,
                   F f) {
  using A = Accumulate<T>;
  const T* d = in[0];
  const T* a = in[1];
  const T* b = in[2];
  if (step[1] != 0 && step[2] != 0) {
    INDEPENDENT_LOOP
    for (int64_t i = 0; i < n; ++i) out[i] = T(f(A(d[i]), A(a[i]), A(b[i])));
  } else if (step[1] != 0) {
    const A right = A(*b);
    INDEPENDENT_LOOP
    for (int64_t i = 0; i < n; ++i) out[i] = T(f(A(d[i]), A(a[i]), right));
  } else {
    const A left = A(*a);
    INDEPENDENT_LOOP
    for (int64_t i = 0; i < n; ++i) out[i] = T(f(A(d[i]), left, A(b[i * step[2]])));
  }
}

}  // namespace detail

/// out = f(in[0], in[1], ...) element by element with broadcasting; all contiguous, `out` may be an input of
/// its own shape. Work is cut by the shapes alone.
template <class T, int count, class F>
void broadcast_apply(const std::array<Tensor, size_t{count}>& in, const Tensor& out, const Stream& stream,
                     F f) {
  std::array<const Shape*, size_t{count}> shapes;
  std::array<const T*, size_t{count}> pointers;
  for (size_t k = 0; k < count; ++k) {
    shapes[k] = &in[k].shape();
    pointers[k] = in[k].template data<T>();
  }
  if (out.numel() == 0) return;
  const BroadcastPlan<count> plan = plan_broadcast<count>(out.shape(), shapes);
  T* to = out.data<T>();
  const int64_t inner = plan.inner();
  const int64_t rows = plan.rows();
  const int64_t piece = std::min(inner, kElementsPerTask);
  const int64_t pieces = (inner + piece - 1) / piece;
  std::array<int64_t, size_t{count}> step;
  for (size_t k = 0; k < count; ++k) step[k] = plan.strides[k].back();

  for_ranges(stream, rows * pieces, rows_per_task(piece), [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t row = item / pieces;
      const int64_t start = (item - row * pieces) * piece;
      std::array<const T*, size_t{count}> at = pointers;
      int64_t rest = row;
      for (size_t d = plan.sizes.size() - 1; d-- > 0;) {
        const int64_t index = rest % plan.sizes[d];
        rest /= plan.sizes[d];
        for (size_t k = 0; k < count; ++k) at[k] += index * plan.strides[k][d];
      }
      for (size_t k = 0; k < count; ++k) at[k] += start * step[k];
      detail::broadcast_row<T>(at, step, to + row * inner + start, std::min(piece, inner - start), f);
    }
  });
}

}  // namespace tutti
