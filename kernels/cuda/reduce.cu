#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/reduce.h"

namespace tutti::cuda {
namespace {

/// Memory traffic: count width sizeof(T).
template <class T>
struct MaxRow {
  const T* x;
  T* y;
  int64_t* winners;
  int64_t width;
  /// The smallest index of all lanes; exact below 2^53.
  template <class Team>
  __device__ static int64_t first(Team& team, int64_t index) {
    return static_cast<int64_t>(-team.max(-static_cast<double>(index)));
  }
  template <class Team>
  __device__ void operator()(Team& team, int64_t r) const {
    using A = Accumulate<T>;
    const T* row = x + r * width;
    A best = -A(__builtin_huge_val());
    int64_t at = width;
    int64_t nan_at = width;
    for (int64_t i = team.lane(); i < width; i += team.lanes()) {
      const A v = A(row[i]);
      if (v != v && nan_at == width) nan_at = i;
      if (v > best || (at == width && v == best)) {
        best = v;
        at = i;
      }
    }
    int64_t winner = first(team, nan_at);
    if (winner == width) {
      const A overall = team.max(best);
      winner = first(team, best == overall ? at : width);
    }
    if (team.lane() == 0) {
      winners[r] = winner;
      y[r] = row[winner];
    }
  }
};

/// Memory traffic: count width sizeof(T).
template <class T>
struct MaxBackward {
  const T* dy;
  const int64_t* winners;
  T* dx;
  int64_t width;
  __device__ void operator()(int64_t i) const {
    const int64_t row = i / width;
    dx[i] = winners[row] == i - row * width ? dy[row] : T(Accumulate<T>(0));
  }
};

struct Extents {
  int64_t picks, size, inner;
};

Extents extents(const Tensor& x, const Tensor& picks) {
  return {picks.numel(), x.size(1), x.size(2)};
}

/// Memory traffic: 2 outer picks inner sizeof(T).
template <class T>
struct Gather {
  const T* x;
  const int64_t* picks;
  T* y;
  Extents e;
  __device__ void operator()(int64_t i) const {
    const int64_t row = i / e.inner;
    y[i] = x[(row / e.picks * e.size + picks[row % e.picks]) * e.inner + i % e.inner];
  }
};

/// One thread per column (outer, inner) of dx; it adds the picks in their order. Memory traffic: 3 outer
/// picks inner sizeof(T).
template <class T>
struct GatherBackward {
  const T* dy;
  const int64_t* picks;
  T* dx;
  Extents e;
  __device__ void operator()(int64_t column) const {
    using A = Accumulate<T>;
    const int64_t outer = column / e.inner;
    const int64_t c = column % e.inner;
    for (int64_t p = 0; p < e.picks; ++p) {
      T& sum = dx[(outer * e.size + picks[p]) * e.inner + c];
      sum = T(A(sum) + A(dy[(outer * e.picks + p) * e.inner + c]));
    }
  }
};

}  // namespace

void max_rows(const Tensor& x, const Tensor& y, const Tensor& winners, const Stream& stream) {
  for (const Tensor* t : {&x, &y, &winners}) require_here("max", *t, stream);
  const int64_t count = winners.numel();
  if (count == 0) return;
  const int64_t width = x.numel() / count;
  dispatch_compute(x.dtype(), "max", [&]<class T>(TypeTag<T>) {
    for_rows("max", count, width, stream,
             MaxRow<T>{x.data<T>(), y.data<T>(), winners.data<int64_t>(), width});
  });
}

void max_rows_backward(const Tensor& dy, const Tensor& winners, const Tensor& dx, const Stream& stream) {
  for (const Tensor* t : {&dy, &winners, &dx}) require_here("max_backward", *t, stream);
  const int64_t count = winners.numel();
  if (count == 0) return;
  dispatch_compute(dy.dtype(), "max_backward", [&]<class T>(TypeTag<T>) {
    for_elements("max_backward", dx.numel(), stream,
                 MaxBackward<T>{dy.data<T>(), winners.data<int64_t>(), dx.data<T>(), dx.numel() / count});
  });
}

void gather(const Tensor& x, const Tensor& picks, const Tensor& y, const Stream& stream) {
  for (const Tensor* t : {&x, &picks, &y}) require_here("gather", *t, stream);
  dispatch_all(x.dtype(), [&]<class T>(TypeTag<T>) {
    for_elements("gather", y.numel(), stream,
                 Gather<T>{x.data<T>(), picks.data<int64_t>(), y.data<T>(), extents(x, picks)});
  });
}

void gather_backward(const Tensor& dy, const Tensor& picks, const Tensor& dx, const Stream& stream) {
  for (const Tensor* t : {&dy, &picks, &dx}) require_here("gather_backward", *t, stream);
  dispatch_compute(dy.dtype(), "gather_backward", [&]<class T>(TypeTag<T>) {
    for_elements("gather_backward", dx.size(0) * dx.size(2), stream,
                 GatherBackward<T>{dy.data<T>(), picks.data<int64_t>(), dx.data<T>(), extents(dx, picks)});
  });
}

}  // namespace tutti::cuda
