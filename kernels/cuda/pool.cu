#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/pool.h"
#include "kernels/row/pack.h"

#include <type_traits>

namespace tutti::cuda {
namespace {

/// The index of the first of kCount adjacent channels of (images, lines, columns, channels).
struct Place {
  int64_t image, line, column, channel;
};

/// Of pack i; in 32 bits where that suffices, as a division in 64 takes many instructions.
template <int kCount>
__device__ inline Place place(int64_t i, const std::array<int64_t, 2>& size, int64_t channels) {
  const int64_t packs = channels / kCount;
  const auto split = [&]<class I>(I pack, I of_row) -> Place {
    const I position = pack / of_row;
    const I row = position / static_cast<I>(size[1]);
    const I image = row / static_cast<I>(size[0]);
    return {static_cast<int64_t>(image), static_cast<int64_t>(row - image * static_cast<I>(size[0])),
            static_cast<int64_t>(position - row * static_cast<I>(size[1])),
            static_cast<int64_t>(pack - position * of_row) * kCount};
  };
  return i < (int64_t{1} << 31) ? split(static_cast<uint32_t>(i), static_cast<uint32_t>(packs))
                                : split(i, packs);
}

template <int kCount, class T>
__device__ row::Pack<T, kCount> load(const T* from) {
  return *reinterpret_cast<const row::Pack<T, kCount>*>(from);
}
template <int kCount, class T>
__device__ void store(T* to, const row::Pack<T, kCount>& pack) {
  *reinterpret_cast<row::Pack<T, kCount>*>(to) = pack;
}

/// One thread per pack of kCount channels of y. Memory traffic: x once if overlapping windows stay in the
/// caches, y, and two bytes per element of y for winners.
template <class T, bool kMax, int kCount>
struct Forward {
  row::PoolGeometry g;
  const T* x;
  T* y;
  uint16_t* winners;
  __device__ void operator()(int64_t i) const {
    using A = Accumulate<T>;
    const Place p = place<kCount>(i, g.out, g.channels);
    const row::Interval rows = row::window(g, 0, p.line);
    const row::Interval columns = row::window(g, 1, p.column);
    const T* image = x + p.image * g.in_image() + p.channel;
    const int64_t top = p.line * g.stride[0] - g.padding[0];
    const int64_t left = p.column * g.stride[1] - g.padding[1];
    A result[kCount] = {};
    row::Pack<uint16_t, kCount> winner{};
    bool first = true;
    for (int64_t ih = rows.begin; ih < rows.end; ++ih) {
      for (int64_t iw = columns.begin; iw < columns.end; ++iw) {
        const auto in = load<kCount>(image + ih * g.in_line() + iw * g.channels);
        const auto position = static_cast<uint16_t>((ih - top) * g.kernel[1] + iw - left);
        for (int c = 0; c < kCount; ++c) {
          const A v = A(in.at[c]);
          if constexpr (kMax) {
            const bool wins = first || v > result[c] || v != v;  // NaN too
            result[c] = wins ? v : result[c];
            winner.at[c] = wins ? position : winner.at[c];
          } else {
            result[c] += v;
          }
        }
        first = false;
      }
    }
    if constexpr (kMax) store(winners + i * kCount, winner);
    row::Pack<T, kCount> out;
    const A share = kMax ? A(1) : row::window_share<A>(g, rows, columns);
    for (int c = 0; c < kCount; ++c) out.at[c] = T(result[c] * share);
    store(y + i * kCount, out);
  }
};

/// One thread per pack of kCount channels of dx, which adds the gradients of the windows that cover it: no
/// two threads write to the same element. Memory traffic: dx, and dy and winners once if overlapping windows
/// stay in the caches.
template <class T, bool kMax, int kCount>
struct Backward {
  row::PoolGeometry g;
  const T* dy;
  const uint16_t* winners;
  T* dx;
  bool accumulate;
  __device__ void operator()(int64_t i) const {
    using A = Accumulate<T>;
    const Place p = place<kCount>(i, g.in, g.channels);
    const row::Interval rows = row::covering(g, 0, p.line);
    const row::Interval columns = row::covering(g, 1, p.column);
    row::Pack<T, kCount> out{};
    if (accumulate) out = load<kCount>(dx + i * kCount);
    A sums[kCount];
    for (int c = 0; c < kCount; ++c) sums[c] = A(out.at[c]);
    for (int64_t oh = rows.begin; oh < rows.end; ++oh) {
      const int64_t kh = p.line - (oh * g.stride[0] - g.padding[0]);
      for (int64_t ow = columns.begin; ow < columns.end; ++ow) {
        const int64_t at = p.image * g.out_image() + oh * g.out_line() + ow * g.channels + p.channel;
        const auto in = load<kCount>(dy + at);
        if constexpr (kMax) {
          const auto position =
              static_cast<int>(kh * g.kernel[1] + p.column - (ow * g.stride[1] - g.padding[1]));
          const auto winner = load<kCount>(winners + at);
          for (int c = 0; c < kCount; ++c) sums[c] += int{winner.at[c]} == position ? A(in.at[c]) : A(0);
        } else {
          const A share = row::window_share<A>(g, row::window(g, 0, oh), row::window(g, 1, ow));
          for (int c = 0; c < kCount; ++c) sums[c] += A(in.at[c]) * share;
        }
      }
    }
    for (int c = 0; c < kCount; ++c) out.at[c] = T(sums[c]);
    store(dx + i * kCount, out);
  }
};

/// Calls f(count) with the channels that a thread takes, as a std::integral_constant: 16 bytes, or one.
template <class T, class F, class... Pointers>
void by_channels(const row::PoolGeometry& g, F f, Pointers... pointers) {
  if (g.channels % row::kWide<T> == 0 && aligned16(pointers...))
    f(std::integral_constant<int, row::kWide<T>>{});
  else
    f(std::integral_constant<int, 1>{});
}

uint16_t* positions(const Tensor& winners) {
  return winners.defined() ? static_cast<uint16_t*>(winners.raw()) : nullptr;
}

template <bool kMax>
void forward(const row::PoolGeometry& g, const Tensor& x, const Tensor& y, const Tensor& winners,
             const Stream& stream) {
  for (const Tensor* t : {&x, &y, &winners}) require_here("pool", *t, stream);
  dispatch_compute(x.dtype(), "pool", [&]<class T>(TypeTag<T>) {
    const auto run = [&]<int kCount>(std::integral_constant<int, kCount>) {
      for_elements("pool", y.numel() / kCount, stream,
                   Forward<T, kMax, kCount>{g, x.data<T>(), y.data<T>(), positions(winners)});
    };
    by_channels<T>(g, run, x.raw(), y.raw(), positions(winners));
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
    const auto run = [&]<int kCount>(std::integral_constant<int, kCount>) {
      const auto backward = [&]<bool kMax>(std::bool_constant<kMax>) {
        for_elements(
            "pool_backward", p.dx.numel() / kCount, stream,
            Backward<T, kMax, kCount>{g, p.dy.data<T>(), positions(p.winners), p.dx.data<T>(), p.accumulate});
      };
      p.winners.defined() ? backward(std::true_type{}) : backward(std::false_type{});
    };
    by_channels<T>(g, run, p.dy.raw(), positions(p.winners), p.dx.raw());
  });
}

}  // namespace tutti::cuda
