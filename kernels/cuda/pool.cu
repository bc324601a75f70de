#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/pool.h"

namespace tutti::cuda {
namespace {

/// Element i of (images, lines, columns, channels).
struct Place {
  int64_t image, line, column, channel;
};

__device__ inline Place place(int64_t i, const std::array<int64_t, 2>& size, int64_t channels) {
  const int64_t position = i / channels;
  const int64_t row = position / size[1];
  return {row / size[0], row % size[0], position % size[1], i % channels};
}

/// A thread an element of y; neighbours in a warp read neighbouring channels. Bytes: x once where windows
/// overlap in the caches, y, and two bytes an element of y for winners.
template <class T, bool kMax>
struct Forward {
  row::PoolGeometry g;
  const T* x;
  T* y;
  uint16_t* winners;
  __device__ void operator()(int64_t i) const {
    using A = Accumulate<T>;
    const Place p = place(i, g.out, g.channels);
    const row::Interval rows = row::window(g, 0, p.line);
    const row::Interval columns = row::window(g, 1, p.column);
    const T* image = x + p.image * g.in_image() + p.channel;
    const int64_t top = p.line * g.stride[0] - g.padding[0];
    const int64_t left = p.column * g.stride[1] - g.padding[1];
    A result = 0;
    int64_t winner = -1;
    for (int64_t ih = rows.begin; ih < rows.end; ++ih) {
      for (int64_t iw = columns.begin; iw < columns.end; ++iw) {
        const A v = A(image[ih * g.in_line() + iw * g.channels]);
        if constexpr (kMax) {
          if (winner < 0 || v > result || v != v) {  // NaN too
            result = v;
            winner = (ih - top) * g.kernel[1] + iw - left;
          }
        } else {
          result += v;
        }
      }
    }
    if constexpr (kMax) {
      winners[i] = static_cast<uint16_t>(winner);
    } else {
      result *= row::window_share<A>(g, rows, columns);
    }
    y[i] = T(result);
  }
};

/// A thread an element of dx, which gathers from the windows over it: no two threads write to one place.
/// Bytes: dx, and dy and winners once where windows overlap in the caches.
template <class T, bool kMax>
struct Backward {
  row::PoolGeometry g;
  const T* dy;
  const uint16_t* winners;
  T* dx;
  bool accumulate;
  __device__ void operator()(int64_t i) const {
    using A = Accumulate<T>;
    const Place p = place(i, g.in, g.channels);
    const row::Interval rows = row::covering(g, 0, p.line);
    const row::Interval columns = row::covering(g, 1, p.column);
    A sum = accumulate ? A(dx[i]) : A(0);
    for (int64_t oh = rows.begin; oh < rows.end; ++oh) {
      const int64_t kh = p.line - (oh * g.stride[0] - g.padding[0]);
      for (int64_t ow = columns.begin; ow < columns.end; ++ow) {
        const int64_t at = p.image * g.out_image() + oh * g.out_line() + ow * g.channels + p.channel;
        if constexpr (kMax) {
          const int64_t position = kh * g.kernel[1] + p.column - (ow * g.stride[1] - g.padding[1]);
          if (int64_t{winners[at]} == position) sum += A(dy[at]);
        } else {
          sum += A(dy[at]) * row::window_share<A>(g, row::window(g, 0, oh), row::window(g, 1, ow));
        }
      }
    }
    dx[i] = T(sum);
  }
};

uint16_t* positions(const Tensor& winners) {
  return winners.defined() ? static_cast<uint16_t*>(winners.raw()) : nullptr;
}

template <bool kMax>
void forward(const row::PoolGeometry& g, const Tensor& x, const Tensor& y, const Tensor& winners,
             const Stream& stream) {
  for (const Tensor* t : {&x, &y, &winners}) require_here("pool", *t, stream);
  dispatch_compute(x.dtype(), "pool", [&]<class T>(TypeTag<T>) {
    for_elements("pool", y.numel(), stream,
                 Forward<T, kMax>{g, x.data<T>(), y.data<T>(), positions(winners)});
  });
}

}  // namespace

void max_pool(const row::PoolGeometry& g, const Tensor& x, const Tensor& y, const Tensor& winners,
              const Stream& stream) {
  forward<true>(g, x, y, winners, stream);
}

void avg_pool(const row::PoolGeometry& g, const Tensor& x, const Tensor& y, const Stream& stream) {
  forward<false>(g, x, y, Tensor(), stream);
}

void pool_backward(const row::PoolGeometry& g, const PoolBackward& p, const Stream& stream) {
  for (const Tensor* t : {&p.dy, &p.winners, &p.dx}) require_here("pool_backward", *t, stream);
  dispatch_compute(p.dy.dtype(), "pool_backward", [&]<class T>(TypeTag<T>) {
    const auto launch = [&]<bool kMax>(std::bool_constant<kMax>) {
      for_elements("pool_backward", p.dx.numel(), stream,
                   Backward<T, kMax>{g, p.dy.data<T>(), positions(p.winners), p.dx.data<T>(), p.accumulate});
    };
    p.winners.defined() ? launch(std::true_type{}) : launch(std::false_type{});
  });
}

}  // namespace tutti::cuda
