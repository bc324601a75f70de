#pragma once

#include <tutti/core/dtype.h>
#include "kernels/row/math.h"

// Row programs of batch_norm. A row is a run of adjacent elements: the channels of one position (kChannels
// true: each element has its own channel parameters) or the plane of one channel (kChannels false: all
// elements use element 0 of the parameters).
namespace tutti::row {

template <bool kChannels, class A>
HOST_DEVICE inline A channel(const A* parameters, int64_t i) {
  return kChannels ? parameters[i] : parameters[0];
}

/// Count, mean and sum of squared deviations of a set of numbers.
template <class A>
struct RowVariance {
  A count;
  A mean;
  A squares;
};

/// The RowVariance of the union of two sets. Source: Chan, Golub & LeVeque 1983, eq. 1.5.
template <class A>
HOST_DEVICE RowVariance<A> merge(const RowVariance<A>& a, const RowVariance<A>& b) {
  const A count = a.count + b.count;
  if (count == 0) return {A(0), A(0), A(0)};
  const A delta = b.mean - a.mean;
  const A share = b.count / count;
  return {count, a.mean + delta * share, a.squares + b.squares + delta * delta * a.count * share};
}

/// Mean and sum of squared deviations of n numbers, in two passes.
template <class Team, class T>
HOST_DEVICE RowVariance<Accumulate<T>> row_variance(Team& t, const T* x, int64_t n) {
  using A = Accumulate<T>;
  A sum = 0;
  for (int64_t i = t.lane(); i < n; i += t.lanes()) sum += A(x[i]);
  const A mean = t.sum(sum) / A(n);
  A squares = 0;
  for (int64_t i = t.lane(); i < n; i += t.lanes()) {
    const A d = A(x[i]) - mean;
    squares += d * d;
  }
  return {A(n), mean, t.sum(squares)};
}

/// The same for each column of `rows` rows of n elements, merged into mean and squares (n) of `before`
/// earlier rows. `scratch` has 2 n elements. The rows should fit the cache, as they are read twice.
template <class Team, class T, class A = Accumulate<T>>
HOST_DEVICE void merge_column_spread(Team& t, const T* x, int64_t rows, int64_t n, int64_t before, A* mean,
                                     A* squares, A* scratch) {
  A* block_mean = scratch;
  A* block_squares = scratch + n;
  for (int64_t i = t.lane(); i < n; i += t.lanes()) block_mean[i] = block_squares[i] = 0;
  for (int64_t r = 0; r < rows; ++r) {
    INDEPENDENT_LOOP
    for (int64_t i = t.lane(); i < n; i += t.lanes()) block_mean[i] += A(x[r * n + i]);
  }
  const A each = A(1) / A(rows);
  INDEPENDENT_LOOP
  for (int64_t i = t.lane(); i < n; i += t.lanes()) block_mean[i] *= each;
  for (int64_t r = 0; r < rows; ++r) {
    INDEPENDENT_LOOP
    for (int64_t i = t.lane(); i < n; i += t.lanes()) {
      const A d = A(x[r * n + i]) - block_mean[i];
      block_squares[i] += d * d;
    }
  }
  const A share = A(rows) / A(before + rows);
  const A weight = A(before) * share;
  INDEPENDENT_LOOP
  for (int64_t i = t.lane(); i < n; i += t.lanes()) {
    const A delta = block_mean[i] - mean[i];
    mean[i] += delta * share;
    squares[i] += block_squares[i] + delta * delta * weight;
  }
}

/// Per-channel parameters of the forward and backward passes.
template <class A>
struct ChannelParameters {
  const A* mean;
  const A* scale;           ///< w / sqrt(var + eps)
  const A* shift;           ///< b; in backward, mean of g
  const A* slope;           ///< backward only: mean of g xhat, divided by sqrt(var + eps)
  const A* bias = nullptr;  ///< backward only: b, if the mask of ReLU follows from x
};

/// y = max(floor, (x - mean) scale + shift + residual); `residual` may be null, floor is 0 for ReLU, else
/// -infinity.
template <bool kChannels, class Team, class T, class A = Accumulate<T>>
HOST_DEVICE void batch_norm(Team& t, const T* x, const T* residual, T* y, int64_t n,
                            const ChannelParameters<A>& p, A floor) {
  if (residual == nullptr) {
    INDEPENDENT_LOOP
    for (int64_t i = t.lane(); i < n; i += t.lanes()) {
      const A v = (A(x[i]) - channel<kChannels>(p.mean, i)) * channel<kChannels>(p.scale, i) +
                  channel<kChannels>(p.shift, i);
      y[i] = T(v < floor ? floor : v);
    }
  } else {
    INDEPENDENT_LOOP
    for (int64_t i = t.lane(); i < n; i += t.lanes()) {
      const A v = (A(x[i]) - channel<kChannels>(p.mean, i)) * channel<kChannels>(p.scale, i) +
                  channel<kChannels>(p.shift, i) + A(residual[i]);
      y[i] = T(v < floor ? floor : v);
    }
  }
}

/// g = dy where y > 0, else 0; g may be dy.
template <class Team, class T>
HOST_DEVICE void mask_by_output(Team& t, const T* dy, const T* y, T* g, int64_t n) {
  using A = Accumulate<T>;
  INDEPENDENT_LOOP
  for (int64_t i = t.lane(); i < n; i += t.lanes()) g[i] = T(A(y[i]) > A(0) ? A(dy[i]) : A(0));
}

/// Adds g and g (x - mean) to the sums of their channels.
template <bool kChannels, class Team, class T, class A = Accumulate<T>>
HOST_DEVICE void batch_norm_sums(Team& t, const T* g, const T* x, int64_t n, const A* mean, A* sums,
                                 A* dots) {
  if constexpr (kChannels) {
    INDEPENDENT_LOOP
    for (int64_t i = t.lane(); i < n; i += t.lanes()) {
      sums[i] += A(g[i]);
      dots[i] += A(g[i]) * (A(x[i]) - mean[i]);
    }
  } else {
    A sum = 0;
    A dot = 0;
    for (int64_t i = t.lane(); i < n; i += t.lanes()) {
      sum += A(g[i]);
      dot += A(g[i]) * (A(x[i]) - mean[0]);
    }
    sum = t.sum(sum);
    dot = t.sum(dot);
    if (t.lane() == 0) {
      sums[0] += sum;
      dots[0] += dot;
    }
    t.barrier();
  }
}

/// dx = scale (g - shift - (x - mean) slope), or dx += that with `accumulate`; dx may be g.
template <bool kChannels, class Team, class T, class A = Accumulate<T>>
HOST_DEVICE void batch_norm_backward(Team& t, const T* g, const T* x, T* dx, bool accumulate, int64_t n,
                                     const ChannelParameters<A>& p) {
  if (accumulate) {
    INDEPENDENT_LOOP
    for (int64_t i = t.lane(); i < n; i += t.lanes()) {
      const A centred = A(x[i]) - channel<kChannels>(p.mean, i);
      dx[i] = T(A(dx[i]) + channel<kChannels>(p.scale, i) * (A(g[i]) - channel<kChannels>(p.shift, i) -
                                                             centred * channel<kChannels>(p.slope, i)));
    }
  } else {
    INDEPENDENT_LOOP
    for (int64_t i = t.lane(); i < n; i += t.lanes()) {
      const A centred = A(x[i]) - channel<kChannels>(p.mean, i);
      dx[i] = T(channel<kChannels>(p.scale, i) *
                (A(g[i]) - channel<kChannels>(p.shift, i) - centred * channel<kChannels>(p.slope, i)));
    }
  }
}

}  // namespace tutti::row
