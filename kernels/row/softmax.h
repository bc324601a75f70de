#pragma once

#include <tutti/core/dtype.h>
#include "kernels/row/math.h"

// Row programs of softmax, log_softmax and cross_entropy. T: type of the tensors, A: fp32, or fp64 for fp64.
namespace tutti::row {

/// An integer with the order of the floats; NaN is above infinity or below -infinity, by its sign. The
/// compiler vectorises the maximum of integers, but not that of floats, because of NaN.
HOST_DEVICE inline int32_t order_key(float x) {
  const auto bits = std::bit_cast<int32_t>(x);
  return bits ^ ((bits >> 31) & 0x7fffffff);
}
HOST_DEVICE inline float from_order_key(int32_t key) {
  return std::bit_cast<float>(key ^ ((key >> 31) & 0x7fffffff));
}
HOST_DEVICE inline int64_t order_key(double x) {
  const auto bits = std::bit_cast<int64_t>(x);
  return bits ^ ((bits >> 63) & 0x7fffffffffffffff);
}
HOST_DEVICE inline double from_order_key(int64_t key) {
  return std::bit_cast<double>(key ^ ((key >> 63) & 0x7fffffffffffffff));
}

/// The largest of this lane's part of x[begin, end); -infinity for none. NaN may be ignored.
template <class Team, class T>
HOST_DEVICE Accumulate<T> lane_max(Team& t, const T* x, int64_t begin, int64_t end) {
  using A = Accumulate<T>;
  auto best = order_key(A(-__builtin_huge_val()));
  for (int64_t i = begin + t.lane(); i < end; i += t.lanes()) {
    const auto key = order_key(A(x[i]));
    best = key > best ? key : best;
  }
  return from_order_key(best);
}

/// log(sum(exp(x))): -infinity if all are -infinity, NaN if one is NaN or +infinity. One pass over memory:
/// parts that fit the L1 cache are read twice, and the sum is rescaled when the maximum grows (Milakov &
/// Gimelshein 2018, "Online normalizer calculation for softmax").
template <class Team, class T>
HOST_DEVICE Accumulate<T> log_sum_exp(Team& t, const T* x, int64_t n) {
  using A = Accumulate<T>;
  const A none = A(-__builtin_huge_val());
  const int64_t piece = 1024 * t.lanes();
  A largest = none;
  A sum = 0;
  for (int64_t begin = 0; begin < n; begin += piece) {
    const int64_t end = begin + piece < n ? begin + piece : n;
    const A here = lane_max(t, x, begin, end);
    const A before = largest;
    largest = here > largest ? here : largest;
    // While all elements are -infinity, exp(-infinity - -infinity) would be NaN.
    const A shift = largest == none ? A(0) : largest;
    A part = 0;
    for (int64_t i = begin + t.lane(); i < end; i += t.lanes()) part += math::exp(A(x[i]) - shift);
    sum = sum * math::exp(before - shift) + part;
  }
  const A overall = t.max(largest);
  const A shift = overall == none ? A(0) : overall;
  return shift + math::log(t.sum(sum * math::exp(largest - shift)));
}

/// y = exp(x - lse); y may be x.
template <class Team, class T, class A = Accumulate<T>>
HOST_DEVICE void softmax(Team& t, const T* x, T* y, int64_t n, A lse) {
  INDEPENDENT_LOOP
  for (int64_t i = t.lane(); i < n; i += t.lanes()) y[i] = T(math::exp(A(x[i]) - lse));
}

template <class Team, class T, class A = Accumulate<T>>
HOST_DEVICE void log_softmax(Team& t, const T* x, T* y, int64_t n, A lse) {
  INDEPENDENT_LOOP
  for (int64_t i = t.lane(); i < n; i += t.lanes()) y[i] = T(A(x[i]) - lse);
}

/// dx = y (dy - sum(dy y)); dx may be dy.
template <class Team, class T>
HOST_DEVICE void softmax_backward(Team& t, const T* dy, const T* y, T* dx, int64_t n) {
  using A = Accumulate<T>;
  A dot = 0;
  for (int64_t i = t.lane(); i < n; i += t.lanes()) dot += A(dy[i]) * A(y[i]);
  dot = t.sum(dot);
  INDEPENDENT_LOOP
  for (int64_t i = t.lane(); i < n; i += t.lanes()) dx[i] = T(A(y[i]) * (A(dy[i]) - dot));
}

/// dx = dy - exp(y) sum(dy); dx may be dy.
template <class Team, class T>
HOST_DEVICE void log_softmax_backward(Team& t, const T* dy, const T* y, T* dx, int64_t n) {
  using A = Accumulate<T>;
  A sum = 0;
  for (int64_t i = t.lane(); i < n; i += t.lanes()) sum += A(dy[i]);
  sum = t.sum(sum);
  INDEPENDENT_LOOP
  for (int64_t i = t.lane(); i < n; i += t.lanes()) dx[i] = T(A(dy[i]) - math::exp(A(y[i])) * sum);
}

/// Sum of the row, for the loss with label smoothing.
template <class Team, class T>
HOST_DEVICE Accumulate<T> row_sum(Team& t, const T* x, int64_t n) {
  using A = Accumulate<T>;
  A sum = 0;
  for (int64_t i = t.lane(); i < n; i += t.lanes()) sum += A(x[i]);
  return t.sum(sum);
}

/// Weights in the loss of a row: of the negative log probability of the target, and of that of every class.
template <class A>
struct TargetWeights {
  A target;
  A every;
};

/// dx = factor (exp(x - lse) - every), minus factor * target at the target; dx may be x.
template <class Team, class T, class A = Accumulate<T>>
HOST_DEVICE void cross_entropy_backward(Team& t, const T* x, T* dx, int64_t n, int64_t target, A lse,
                                        TargetWeights<A> weights, A factor) {
  // Computed before any lane overwrites x[target].
  const A at_target = factor * (math::exp(A(x[target]) - lse) - weights.every - weights.target);
  t.barrier();
  INDEPENDENT_LOOP
  for (int64_t i = t.lane(); i < n; i += t.lanes()) {
    dx[i] = T(factor * (math::exp(A(x[i]) - lse) - weights.every));
  }
  t.barrier();
  if (t.lane() == 0) dx[target] = T(at_target);
}

}  // namespace tutti::row
