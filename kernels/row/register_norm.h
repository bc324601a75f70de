#pragma once

#include "kernels/row/norm.h"
#include "kernels/row/pack.h"

// Row programs of layer_norm and rms_norm for register-resident rows: memory is read and written once, 16
// bytes at a time. Rows and parameters are aligned to 16 bytes, and n is a multiple of the pack.
namespace tutti::row {

/// A lane's part of a row; packs beyond the row are zero.
template <int kPacks, class T>
struct RegisterRow {
  WidePack<T> pack[kPacks];
};

/// Calls f(k, i) for each pack k of this lane that is within the row; i is the index of its first element.
template <int kPacks, class T, class Team, class F>
HOST_DEVICE inline void for_packs(Team& t, int64_t n, F f) {
#if defined(__CUDA_ARCH__)
#  pragma unroll
#endif
  for (int k = 0; k < kPacks; ++k) {
    const int64_t i = (k * t.lanes() + t.lane()) * kWide<T>;
    if (i < n) f(k, i);
  }
}

template <int kPacks, class Team, class T>
HOST_DEVICE inline RegisterRow<kPacks, T> load_row(Team& t, const T* x, int64_t n) {
  RegisterRow<kPacks, T> registers{};
  for_packs<kPacks, T>(t, n, [&](int k, int64_t i) { registers.pack[k] = load_pack(x + i); });
  return registers;
}

/// Mean (0 unless kCentred) and 1 / sqrt(variance + eps) of a register-resident row.
template <bool kCentred, int kPacks, class Team, class T, class A = Accumulate<T>>
HOST_DEVICE inline Moments<A> register_moments(Team& t, const RegisterRow<kPacks, T>& x, int64_t n, A eps) {
  A mean = 0;
  if constexpr (kCentred) {
    A sum = 0;
    for_packs<kPacks, T>(t, n, [&](int k, int64_t) {
      for (int j = 0; j < kWide<T>; ++j) sum += A(x.pack[k].at[j]);
    });
    mean = t.sum(sum) / A(n);
  }
  A squares = 0;
  for_packs<kPacks, T>(t, n, [&](int k, int64_t) {
    for (int j = 0; j < kWide<T>; ++j) {
      const A d = A(x.pack[k].at[j]) - mean;
      squares += d * d;
    }
  });
  return {mean, A(1) / math::sqrt(t.sum(squares) / A(n) + eps)};
}

/// y = (x - mean) * rstd * w + b. If `residual` is not null, sum = x + residual is normalised in place of x.
/// `b` may be null. If y is null, only the moments and the sum are computed.
template <bool kCentred, int kPacks, class Team, class T, class A = Accumulate<T>>
HOST_DEVICE Moments<A> register_norm(Team& t, const T* x, const T* residual, T* sum, const T* w, const T* b,
                                     T* y, int64_t n, A eps) {
  RegisterRow<kPacks, T> registers = load_row<kPacks>(t, x, n);
  if (residual != nullptr) {
    for_packs<kPacks, T>(t, n, [&](int k, int64_t i) {
      const WidePack<T> other = load_pack(residual + i);
      // Rounded first, so that the moments are those of the stored sum.
      for (int j = 0; j < kWide<T>; ++j)
        registers.pack[k].at[j] = T(A(registers.pack[k].at[j]) + A(other.at[j]));
      store_pack(sum + i, registers.pack[k]);
    });
  }
  const Moments<A> m = register_moments<kCentred>(t, registers, n, eps);
  if (y == nullptr) return m;
  for_packs<kPacks, T>(t, n, [&](int k, int64_t i) {
    const WidePack<T> weight = load_pack(w + i);
    WidePack<T> shift{};
    if (b != nullptr) shift = load_pack(b + i);
    WidePack<T> out;
    for (int j = 0; j < kWide<T>; ++j) {
      out.at[j] = T((A(registers.pack[k].at[j]) - m.mean) * m.rstd * A(weight.at[j]) + A(shift.at[j]));
    }
    store_pack(y + i, out);
  });
  return m;
}

/// Partial sums of the gradients of the parameters in one lane.
template <int kPacks, class T, class A = Accumulate<T>>
struct RegisterSums {
  A dw[kPacks][kWide<T>] = {};
  A db[kPacks][kWide<T>] = {};  // unused unless centred

  HOST_DEVICE void add_dw(int k, int j, A gradient) { dw[k][j] += gradient; }
  HOST_DEVICE void add_db(int k, int j, A gradient) { db[k][j] += gradient; }
};

/// For rows whose sums do not fit the registers.
struct NoSums {
  template <class A>
  HOST_DEVICE void add_dw(int, int, A) {}
  template <class A>
  HOST_DEVICE void add_db(int, int, A) {}
};

/// norm_backward (norm.h) of a register-resident row; its part of dw and db is added to `sums`, which are
/// RegisterSums or NoSums. `w` is read again for each row: it is in the caches, and registers are few.
template <bool kCentred, int kPacks, class Team, class T, class Sums, class A = Accumulate<T>>
HOST_DEVICE void register_norm_backward(Team& t, const T* dy, const T* x, const T* w, Moments<A> moments,
                                        T* dx, bool accumulate, Sums& sums, int64_t n) {
  const RegisterRow<kPacks, T> d = load_row<kPacks>(t, dy, n);
  const RegisterRow<kPacks, T> in = load_row<kPacks>(t, x, n);
  A sum = 0;
  A dot = 0;
  for_packs<kPacks, T>(t, n, [&](int k, int64_t i) {
    const WidePack<T> weight = load_pack(w + i);
    for (int j = 0; j < kWide<T>; ++j) {
      const A g = A(d.pack[k].at[j]);
      const A xhat = (A(in.pack[k].at[j]) - moments.mean) * moments.rstd;
      const A weighted = g * A(weight.at[j]);
      dot += weighted * xhat;
      sums.add_dw(k, j, g * xhat);
      if constexpr (kCentred) {
        sum += weighted;
        sums.add_db(k, j, g);
      }
    }
  });
  if (dx == nullptr) return;
  const A mean_g = kCentred ? t.sum(sum) / A(n) : A(0);
  const A mean_dot = t.sum(dot) / A(n);
  for_packs<kPacks, T>(t, n, [&](int k, int64_t i) {
    WidePack<T> before{};
    if (accumulate) before = load_pack(dx + i);
    const WidePack<T> weight = load_pack(w + i);
    WidePack<T> out;
    for (int j = 0; j < kWide<T>; ++j) {
      const A xhat = (A(in.pack[k].at[j]) - moments.mean) * moments.rstd;
      const A g = A(d.pack[k].at[j]) * A(weight.at[j]);
      out.at[j] = T(A(before.at[j]) + moments.rstd * (g - mean_g - xhat * mean_dot));
    }
    store_pack(dx + i, out);
  });
}

}  // namespace tutti::row
