#pragma once

#include <tutti/core/dtype.h>
#include "kernels/row/math.h"

#include <limits>

namespace tutti::row {

/// One row of attention scores: p = exp(scale * s - max) for the first `visible` keys, 0 for the others of
/// `keys`. Writes the sum of p in fp32 (fp64), before rounding, and the maximum. A is float or double, T the
/// dtype of p.
template <class Team, class A, class T>
HOST_DEVICE void score_row(Team& t, const A* s, T* p, int64_t visible, int64_t keys, A scale, A& sum,
                           A& maximum) {
  A m = -std::numeric_limits<A>::infinity();
  for (int64_t i = t.lane(); i < visible; i += t.lanes()) m = s[i] * scale > m ? s[i] * scale : m;
  m = t.max(m);
  A total = 0;
  INDEPENDENT_LOOP
  for (int64_t i = t.lane(); i < visible; i += t.lanes()) {
    const A e = math::exp(s[i] * scale - m);
    p[i] = T(e);
    total += e;
  }
  for (int64_t i = visible + t.lane(); i < keys; i += t.lanes()) p[i] = T(A(0));
  sum = t.sum(total);
  maximum = m;
}

/// The row in backward: recomputes p = exp(scale * s - lse), and computes the gradient of the scores, ds =
/// scale p (dp - delta). p and ds are 0 from `visible` to `keys`.
template <class Team, class A, class T>
HOST_DEVICE void score_row_backward(Team& t, const A* s, const A* dp, T* p, T* ds, int64_t visible,
                                    int64_t keys, A scale, A lse, A delta) {
  INDEPENDENT_LOOP
  for (int64_t i = t.lane(); i < visible; i += t.lanes()) {
    const A e = math::exp(s[i] * scale - lse);
    p[i] = T(e);
    ds[i] = T(scale * e * (dp[i] - delta));
  }
  for (int64_t i = visible + t.lane(); i < keys; i += t.lanes()) {
    p[i] = T(A(0));
    ds[i] = T(A(0));
  }
}

/// s = cap tanh(scale s / cap), in place, for score_row() with a scale of 1.
template <class Team, class A>
HOST_DEVICE void cap_scores(Team& t, A* s, int64_t n, A scale, A cap) {
  INDEPENDENT_LOOP
  for (int64_t i = t.lane(); i < n; i += t.lanes()) s[i] = cap * math::tanh(s[i] * scale / cap);
}

/// score_row_backward() for a row of capped scores. s are the products before scale and cap; p may be s, and
/// ds may be dp.
template <class Team, class A, class T>
HOST_DEVICE void capped_row_backward(Team& t, const A* s, const A* dp, T* p, T* ds, int64_t visible,
                                     int64_t keys, A scale, A cap, A lse, A delta) {
  INDEPENDENT_LOOP
  for (int64_t i = t.lane(); i < visible; i += t.lanes()) {
    const A u = math::tanh(s[i] * scale / cap);
    const A e = math::exp(cap * u - lse);
    p[i] = T(e);
    ds[i] = T(scale * (A(1) - u * u) * e * (dp[i] - delta));
  }
  for (int64_t i = visible + t.lane(); i < keys; i += t.lanes()) {
    p[i] = T(A(0));
    ds[i] = T(A(0));
  }
}

}  // namespace tutti::row
