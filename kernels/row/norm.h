#pragma once

#include <tutti/core/dtype.h>
#include "kernels/row/math.h"

// Row programs of layer_norm and rms_norm. T: type of the tensors, A: fp32, or fp64 for fp64.
namespace tutti::row {

/// The normalisation of a row: xhat = (x - mean) * rstd.
template <class A>
struct Moments {
  A mean;
  A rstd;
};

/// sum = x + residual.
template <class Team, class T>
HOST_DEVICE void add(Team& t, const T* x, const T* residual, T* sum, int64_t n) {
  using A = Accumulate<T>;
  INDEPENDENT_LOOP
  for (int64_t i = t.lane(); i < n; i += t.lanes()) sum[i] = T(A(x[i]) + A(residual[i]));
}

/// y = (x - mean) * rstd * w + b; `b` may be null.
template <class Team, class T, class A = Accumulate<T>>
HOST_DEVICE Moments<A> layer_norm(Team& t, const T* x, const T* w, const T* b, T* y, int64_t n, A eps) {
  A sum = 0;
  for (int64_t i = t.lane(); i < n; i += t.lanes()) sum += A(x[i]);
  const A mean = t.sum(sum) / A(n);
  A squares = 0;
  for (int64_t i = t.lane(); i < n; i += t.lanes()) {
    const A d = A(x[i]) - mean;
    squares += d * d;
  }
  const A rstd = A(1) / math::sqrt(t.sum(squares) / A(n) + eps);
  if (b != nullptr) {
    INDEPENDENT_LOOP
    for (int64_t i = t.lane(); i < n; i += t.lanes()) y[i] = T((A(x[i]) - mean) * rstd * A(w[i]) + A(b[i]));
  } else {
    INDEPENDENT_LOOP
    for (int64_t i = t.lane(); i < n; i += t.lanes()) y[i] = T((A(x[i]) - mean) * rstd * A(w[i]));
  }
  return {mean, rstd};
}

/// y = x * rstd * w with rstd = 1 / sqrt(mean square + eps), which is returned.
template <class Team, class T, class A = Accumulate<T>>
HOST_DEVICE A rms_norm(Team& t, const T* x, const T* w, T* y, int64_t n, A eps) {
  A squares = 0;
  for (int64_t i = t.lane(); i < n; i += t.lanes()) squares += A(x[i]) * A(x[i]);
  const A rstd = A(1) / math::sqrt(t.sum(squares) / A(n) + eps);
  INDEPENDENT_LOOP
  for (int64_t i = t.lane(); i < n; i += t.lanes()) y[i] = T(A(x[i]) * rstd * A(w[i]));
  return rstd;
}

/// The gradients of one row of layer_norm, or of rms_norm with kCentred false and mean 0. Adds the row's part
/// to the sums dw and db (n). Writes dx, or adds to it with `accumulate`, or does not compute it if it is
/// null. dx may be dy.
///   g = dy w;  dx = rstd (g - mean(g) - xhat mean(g xhat)), without the term mean(g) if not centred.
template <bool kCentred, class Team, class T, class A>
HOST_DEVICE void norm_backward(Team& t, const T* dy, const T* x, const T* w, Moments<A> moments, T* dx,
                               bool accumulate, A* dw, A* db, int64_t n) {
  const auto [mean, rstd] = moments;
  A sum = 0;
  A dot = 0;
  INDEPENDENT_LOOP
  for (int64_t i = t.lane(); i < n; i += t.lanes()) {
    const A d = A(dy[i]);
    const A xhat = (A(x[i]) - mean) * rstd;
    const A g = d * A(w[i]);
    dot += g * xhat;
    dw[i] += d * xhat;
    if constexpr (kCentred) {
      sum += g;
      db[i] += d;
    }
  }
  if (dx == nullptr) return;
  const A mean_g = kCentred ? t.sum(sum) / A(n) : A(0);
  const A mean_dot = t.sum(dot) / A(n);
  if (accumulate) {
    INDEPENDENT_LOOP
    for (int64_t i = t.lane(); i < n; i += t.lanes()) {
      const A xhat = (A(x[i]) - mean) * rstd;
      dx[i] = T(A(dx[i]) + rstd * (A(dy[i]) * A(w[i]) - mean_g - xhat * mean_dot));
    }
  } else {
    INDEPENDENT_LOOP
    for (int64_t i = t.lane(); i < n; i += t.lanes()) {
      const A xhat = (A(x[i]) - mean) * rstd;
      dx[i] = T(rstd * (A(dy[i]) * A(w[i]) - mean_g - xhat * mean_dot));
    }
  }
}

}  // namespace tutti::row
