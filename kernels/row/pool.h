#pragma once

#include <tutti/core/dtype.h>
#include "kernels/row/team.h"

#include <array>

// Row programs of pooling: one line (all positions of one height) of one image (H, W, C). Lanes share
// channels.
namespace tutti::row {

struct PoolGeometry {
  int64_t images = 0;
  int64_t channels = 0;
  std::array<int64_t, 2> in{}, out{}, kernel{}, stride{}, padding{};  // height, width
  bool count_padding = true;

  [[nodiscard]] HOST_DEVICE int64_t in_line() const { return in[1] * channels; }
  [[nodiscard]] HOST_DEVICE int64_t out_line() const { return out[1] * channels; }
  [[nodiscard]] HOST_DEVICE int64_t in_image() const { return in[0] * in_line(); }
  [[nodiscard]] HOST_DEVICE int64_t out_image() const { return out[0] * out_line(); }
};

/// [begin, end).
struct Interval {
  int64_t begin;
  int64_t end;
};

/// The elements of the input that window `o` covers along dim d.
HOST_DEVICE inline Interval window(const PoolGeometry& g, size_t d, int64_t o) {
  const int64_t begin = o * g.stride[d] - g.padding[d];
  const int64_t end = begin + g.kernel[d];
  return {begin < 0 ? 0 : begin, end < g.in[d] ? end : g.in[d]};
}

/// The windows that cover element `i` along dim d.
HOST_DEVICE inline Interval covering(const PoolGeometry& g, size_t d, int64_t i) {
  const int64_t first = i + g.padding[d] - g.kernel[d] + 1;  // smallest possible start of a window
  const int64_t begin = first <= 0 ? 0 : (first + g.stride[d] - 1) / g.stride[d];
  const int64_t end = (i + g.padding[d]) / g.stride[d] + 1;
  return {begin, end < g.out[d] ? end : g.out[d]};
}

/// 1 / the number of elements in the mean of a window.
template <class A>
HOST_DEVICE A window_share(const PoolGeometry& g, const Interval& rows, const Interval& columns) {
  return A(1) / A(g.count_padding ? g.kernel[0] * g.kernel[1]
                                  : (rows.end - rows.begin) * (columns.end - columns.begin));
}

inline constexpr int64_t kPoolChannels = 128;  // channels per lane and iteration

/// y (out W, C) and the winning positions in the windows of output line `line`; x is the image.
template <class Team, class T>
HOST_DEVICE void max_pool_line(Team& t, const PoolGeometry& g, const T* x, int64_t line, T* y,
                               uint16_t* winners) {
  using A = Accumulate<T>;
  const Interval rows = window(g, 0, line);
  const int64_t top = line * g.stride[0] - g.padding[0];
  for (int64_t ow = 0; ow < g.out[1]; ++ow) {
    const Interval columns = window(g, 1, ow);
    const int64_t left = ow * g.stride[1] - g.padding[1];
    for (int64_t c = t.lane() * kPoolChannels; c < g.channels; c += t.lanes() * kPoolChannels) {
      const int64_t n = g.channels - c < kPoolChannels ? g.channels - c : kPoolChannels;
      A best[kPoolChannels];
      int32_t winner[kPoolChannels];
      bool first = true;
      for (int64_t ih = rows.begin; ih < rows.end; ++ih) {
        for (int64_t iw = columns.begin; iw < columns.end; ++iw) {
          const T* at = x + ih * g.in_line() + iw * g.channels + c;
          const auto position = static_cast<int32_t>((ih - top) * g.kernel[1] + iw - left);
          if (first) {
            INDEPENDENT_LOOP
            for (int64_t i = 0; i < n; ++i) {
              best[i] = A(at[i]);
              winner[i] = position;
            }
            first = false;
            continue;
          }
          INDEPENDENT_LOOP
          for (int64_t i = 0; i < n; ++i) {
            const A v = A(at[i]);
            const bool wins = v > best[i] || v != v;  // NaN too
            best[i] = wins ? v : best[i];
            winner[i] = wins ? position : winner[i];
          }
        }
      }
      INDEPENDENT_LOOP
      for (int64_t i = 0; i < n; ++i) {
        y[ow * g.channels + c + i] = T(best[i]);
        winners[ow * g.channels + c + i] = static_cast<uint16_t>(winner[i]);
      }
    }
  }
}

/// dx (in W, C) of input line `line`: the sum, for each element, of the gradients from the windows that cover
/// it. `add(sums, n, at, oh, ow, iw)` adds the gradients from window (oh, ow) for n channels of column iw;
/// these channels of the window begin at element `at` of the image's output.
template <class Team, class T, class Add>
HOST_DEVICE void pool_line_backward(Team& t, const PoolGeometry& g, int64_t line, T* dx, bool accumulate,
                                    Add add) {
  using A = Accumulate<T>;
  const Interval rows = covering(g, 0, line);
  for (int64_t iw = 0; iw < g.in[1]; ++iw) {
    const Interval columns = covering(g, 1, iw);
    for (int64_t c = t.lane() * kPoolChannels; c < g.channels; c += t.lanes() * kPoolChannels) {
      const int64_t n = g.channels - c < kPoolChannels ? g.channels - c : kPoolChannels;
      T* out = dx + iw * g.channels + c;
      A sums[kPoolChannels];
      INDEPENDENT_LOOP
      for (int64_t i = 0; i < n; ++i) sums[i] = accumulate ? A(out[i]) : A(0);
      for (int64_t oh = rows.begin; oh < rows.end; ++oh) {
        for (int64_t ow = columns.begin; ow < columns.end; ++ow)
          add(sums, n, oh * g.out_line() + ow * g.channels + c, oh, ow, iw);
      }
      INDEPENDENT_LOOP
      for (int64_t i = 0; i < n; ++i) out[i] = T(sums[i]);
    }
  }
}

/// pool_line_backward() of max_pool_line(); dy and winners are those of the image.
template <class Team, class T>
HOST_DEVICE void max_pool_line_backward(Team& t, const PoolGeometry& g, const T* dy, const uint16_t* winners,
                                        int64_t line, T* dx, bool accumulate) {
  using A = Accumulate<T>;
  pool_line_backward(
      t, g, line, dx, accumulate,
      [&g, dy, winners, line](A* sums, int64_t n, int64_t at, int64_t oh, int64_t ow, int64_t iw) {
        const int64_t kh = line - (oh * g.stride[0] - g.padding[0]);
        const auto position =
            static_cast<uint16_t>(kh * g.kernel[1] + iw - (ow * g.stride[1] - g.padding[1]));
        INDEPENDENT_LOOP
        for (int64_t i = 0; i < n; ++i)
          sums[i] += int32_t{winners[at + i]} == position ? A(dy[at + i]) : A(0);
      });
}

/// y (out W, C): means of the windows of output line `line`; x is the image.
template <class Team, class T>
HOST_DEVICE void avg_pool_line(Team& t, const PoolGeometry& g, const T* x, int64_t line, T* y) {
  using A = Accumulate<T>;
  const Interval rows = window(g, 0, line);
  for (int64_t ow = 0; ow < g.out[1]; ++ow) {
    const Interval columns = window(g, 1, ow);
    const A share = window_share<A>(g, rows, columns);
    for (int64_t c = t.lane() * kPoolChannels; c < g.channels; c += t.lanes() * kPoolChannels) {
      const int64_t n = g.channels - c < kPoolChannels ? g.channels - c : kPoolChannels;
      A sums[kPoolChannels] = {};
      for (int64_t ih = rows.begin; ih < rows.end; ++ih) {
        for (int64_t iw = columns.begin; iw < columns.end; ++iw) {
          const T* at = x + ih * g.in_line() + iw * g.channels + c;
          INDEPENDENT_LOOP
          for (int64_t i = 0; i < n; ++i) sums[i] += A(at[i]);
        }
      }
      INDEPENDENT_LOOP
      for (int64_t i = 0; i < n; ++i) y[ow * g.channels + c + i] = T(sums[i] * share);
    }
  }
}

/// pool_line_backward() of avg_pool_line(); dy is that of the image.
template <class Team, class T>
HOST_DEVICE void avg_pool_line_backward(Team& t, const PoolGeometry& g, const T* dy, int64_t line, T* dx,
                                        bool accumulate) {
  using A = Accumulate<T>;
  pool_line_backward(t, g, line, dx, accumulate,
                     [&g, dy](A* sums, int64_t n, int64_t at, int64_t oh, int64_t ow, int64_t) {
                       const A share = window_share<A>(g, window(g, 0, oh), window(g, 1, ow));
                       INDEPENDENT_LOOP
                       for (int64_t i = 0; i < n; ++i) sums[i] += A(dy[at + i]) * share;
                     });
}

}  // namespace tutti::row
