#pragma once

#include "kernels/row/norm.h"
#include "kernels/row/pack.h"

// Row programs of layer_norm and rms_norm for rows that a team holds in registers: memory is read and written
// once, 16 bytes at a time. Rows and parameters are aligned to 16 bytes, and n is a multiple of the pack.
namespace tutti::row {

/// kHeld packs a lane: what t.lanes() lanes can hold of a row.
template <int kHeld, class T>
HOST_DEVICE constexpr int64_t held_elements(int64_t lanes) {
  return lanes * kHeld * kWide<T>;
}

/// A lane's part of a row; packs beyond the row are zero.
template <int kHeld, class T>
struct Held {
  WidePack<T> pack[kHeld];
};

/// Calls f(k, i) for each pack k of this lane that lies in the row and starts at element i.
template <int kHeld, class T, class Team, class F>
HOST_DEVICE inline void for_held(Team& t, int64_t n, F f) {
#if defined(__CUDA_ARCH__)
#  pragma unroll
#endif
  for (int k = 0; k < kHeld; ++k) {
    const int64_t i = (k * t.lanes() + t.lane()) * kWide<T>;
    if (i < n) f(k, i);
  }
}

template <int kHeld, class Team, class T>
HOST_DEVICE inline Held<kHeld, T> hold(Team& t, const T* x, int64_t n) {
  Held<kHeld, T> held{};
  for_held<kHeld, T>(t, n, [&](int k, int64_t i) { held.pack[k] = load_pack(x + i); });
  return held;
}

/// Mean (0 unless kCentred) and 1 / sqrt(variance + eps) of a held row.
template <bool kCentred, int kHeld, class Team, class T, class A = Accumulate<T>>
HOST_DEVICE inline Moments<A> held_moments(Team& t, const Held<kHeld, T>& x, int64_t n, A eps) {
  A mean = 0;
  if constexpr (kCentred) {
    A sum = 0;
    for_held<kHeld, T>(t, n, [&](int k, int64_t) {
      for (int j = 0; j < kWide<T>; ++j) sum += A(x.pack[k].at[j]);
    });
    mean = t.sum(sum) / A(n);
  }
  A squares = 0;
  for_held<kHeld, T>(t, n, [&](int k, int64_t) {
    for (int j = 0; j < kWide<T>; ++j) {
      const A d = A(x.pack[k].at[j]) - mean;
      squares += d * d;
    }
  });
  return {mean, A(1) / math::sqrt(t.sum(squares) / A(n) + eps)};
}

/// y = (x - mean) * rstd * w + b, and x = x + residual before that, written to `sum`, where `residual` is not
/// null. `b` may be null; so may y, which is then not wanted.
template <bool kCentred, int kHeld, class Team, class T, class A = Accumulate<T>>
HOST_DEVICE Moments<A> held_norm(Team& t, const T* x, const T* residual, T* sum, const T* w, const T* b, T* y,
                                 int64_t n, A eps) {
  Held<kHeld, T> held = hold<kHeld>(t, x, n);
  if (residual != nullptr) {
    for_held<kHeld, T>(t, n, [&](int k, int64_t i) {
      const WidePack<T> other = load_pack(residual + i);
      // Rounded before the moments are taken: they are those of the sum that is stored.
      for (int j = 0; j < kWide<T>; ++j) held.pack[k].at[j] = T(A(held.pack[k].at[j]) + A(other.at[j]));
      store_pack(sum + i, held.pack[k]);
    });
  }
  const Moments<A> m = held_moments<kCentred>(t, held, n, eps);
  if (y == nullptr) return m;
  for_held<kHeld, T>(t, n, [&](int k, int64_t i) {
    const WidePack<T> weight = load_pack(w + i);
    WidePack<T> shift{};
    if (b != nullptr) shift = load_pack(b + i);
    WidePack<T> out;
    for (int j = 0; j < kWide<T>; ++j) {
      out.at[j] = T((A(held.pack[k].at[j]) - m.mean) * m.rstd * A(weight.at[j]) + A(shift.at[j]));
    }
    store_pack(y + i, out);
  });
  return m;
}

/// A lane's sums of the parameters' gradients.
template <int kHeld, class T, class A = Accumulate<T>>
struct HeldSums {
  A dw[kHeld][kWide<T>] = {};
  A db[kHeld][kWide<T>] = {};  // unused unless centred
};

/// norm_backward (norm.h) of a held row; the row's part of dw and db goes to `sums`.
template <bool kCentred, int kHeld, class Team, class T, class A = Accumulate<T>>
HOST_DEVICE void held_norm_backward(Team& t, const T* dy, const T* x, const Held<kHeld, T>& w,
                                    Moments<A> moments, T* dx, bool accumulate, HeldSums<kHeld, T>& sums,
                                    int64_t n) {
  const Held<kHeld, T> d = hold<kHeld>(t, dy, n);
  const Held<kHeld, T> in = hold<kHeld>(t, x, n);
  A sum = 0;
  A dot = 0;
  for_held<kHeld, T>(t, n, [&](int k, int64_t) {
    for (int j = 0; j < kWide<T>; ++j) {
      const A g = A(d.pack[k].at[j]);
      const A xhat = (A(in.pack[k].at[j]) - moments.mean) * moments.rstd;
      const A weighted = g * A(w.pack[k].at[j]);
      dot += weighted * xhat;
      sums.dw[k][j] += g * xhat;
      if constexpr (kCentred) {
        sum += weighted;
        sums.db[k][j] += g;
      }
    }
  });
  if (dx == nullptr) return;
  const A mean_g = kCentred ? t.sum(sum) / A(n) : A(0);
  const A mean_dot = t.sum(dot) / A(n);
  for_held<kHeld, T>(t, n, [&](int k, int64_t i) {
    WidePack<T> before{};
    if (accumulate) before = load_pack(dx + i);
    WidePack<T> out;
    for (int j = 0; j < kWide<T>; ++j) {
      const A xhat = (A(in.pack[k].at[j]) - moments.mean) * moments.rstd;
      const A g = A(d.pack[k].at[j]) * A(w.pack[k].at[j]);
      out.at[j] = T(A(before.at[j]) + moments.rstd * (g - mean_g - xhat * mean_dot));
    }
    store_pack(dx + i, out);
  });
}

}  // namespace tutti::row
