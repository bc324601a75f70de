#pragma once

#include "kernels/cpu/ranges.h"
#include "kernels/cuda/on_cuda.h"
#include "kernels/cuda/pointwise.h"
#include "kernels/gradient.h"
#include "kernels/row/pointwise.h"

namespace tutti {

namespace detail {

template <row::Listed<row::UnaryOps> Op>
void map_forward(std::string_view name, const Tensor& in, const Tensor& out, Op op, const Stream& stream) {
  if constexpr (kWithCuda) {
    if (on_cuda(stream)) return cuda::map(in, out, op, stream);
  }
  dispatch_compute(in.dtype(), name, [&]<class T>(TypeTag<T>) {
    const T* from = in.data<T>();
    T* to = out.data<T>();
    for_ranges(stream, in.numel(), kElementsPerTask, [=](int64_t begin, int64_t end) {
      SerialTeam team;
      row::map(team, from + begin, to + begin, end - begin, op);
    });
  });
}

template <row::Listed<row::UnaryOps> Op>
void map_backward(const Tensor& dy, const Tensor& saved, const Tensor& dx, Op op, const Stream& stream) {
  if constexpr (kWithCuda) {
    if (on_cuda(stream)) return cuda::map_backward(dy, saved, dx, op, stream);
  }
  dispatch_compute(dy.dtype(), "backward", [&]<class T>(TypeTag<T>) {
    const T* from = dy.data<T>();
    const T* with = saved.defined() ? saved.data<T>() : from;
    T* to = dx.data<T>();
    for_ranges(stream, dy.numel(), kElementsPerTask, [=](int64_t begin, int64_t end) {
      SerialTeam team;
      row::map_backward(team, from + begin, with + begin, to + begin, end - begin, op);
    });
  });
}

}  // namespace detail

/// The unary operation of a functor (kernels/row/pointwise.h).
template <row::Listed<row::UnaryOps> Op>
Var map(Tape& tape, std::string_view name, const Var& x, Op op) {
  const Stream& stream = tape.stream();
  const Tensor in = x.value.to_contiguous(stream);
  const Tensor out = Tensor::empty(in.shape(), in.dtype(), stream);
  detail::map_forward(name, in, out, op, stream);
  const Tensor saved = Op::kSaves == row::Saves::kInput    ? in
                       : Op::kSaves == row::Saves::kOutput ? out
                                                           : Tensor();
  return tape.record(name, out, {x}, [stream, saved, op](const Tensor& dy, const Gradients& gradients) {
    const Tensor dx = reuse_or_empty(dy, stream);
    detail::map_backward(dy, saved, dx, op, stream);
    gradients.add(0, dx);
  });
}

}  // namespace tutti
