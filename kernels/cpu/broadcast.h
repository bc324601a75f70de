#pragma once

#include "kernels/broadcast_plan.h"
#include "kernels/cpu/ranges.h"
#include "kernels/row/team.h"

#include <array>

namespace tutti {

namespace detail {

// One loop for each pattern of inner strides, so that the compiler vectorises each.
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

// The first operand is the gradient of the result: its stride is never 0.
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

/// out = f(in[0], in[1], ...) element by element with broadcasting. All tensors are contiguous; `out` may be
/// an input of the same shape. Tasks depend on the shapes alone.
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
