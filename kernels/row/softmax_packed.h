#pragma once

#include "kernels/row/pack.h"
#include "kernels/row/softmax.h"

// Row programs of cross_entropy for GPUs: they read and write 16 bytes at a time, and a row once. Rows may
// begin at any element: those before the first address that is a multiple of 16, and after the last pack, are
// handled one by one.
namespace tutti::row {

/// The sum of exp(x) with the largest x so far taken out of it (Milakov & Gimelshein 2018, "Online normalizer
/// calculation for softmax").
template <class A>
struct OnlineSum {
  static constexpr A kNone = A(-__builtin_huge_val());
  A largest = kNone;
  A sum = 0;

  /// While all are -infinity, exp(-infinity - -infinity) would be NaN.
  HOST_DEVICE A shift() const { return largest == kNone ? A(0) : largest; }
  template <int kCount>
  HOST_DEVICE void add(const A (&x)[kCount]) {
    A m = largest;
    for (int i = 0; i < kCount; ++i) m = math::larger(x[i], m);
    const A before = largest;
    largest = m;
    const A s = shift();
    sum *= math::exp_fast(before - s);
    for (int i = 0; i < kCount; ++i) sum += math::exp_fast(x[i] - s);
  }
};

/// As log_sum_exp(). In fp32 within (4 + the spread of x) ulp.
template <class Team, class T>
HOST_DEVICE Accumulate<T> log_sum_exp_packed(Team& t, const T* x, int64_t n) {
  using A = Accumulate<T>;
  constexpr int kPack = kWide<T>;
  constexpr int kAtOnce = 4;  // loads in flight
  const PackedRow<T> row(x, n);
  OnlineSum<A> mine;
  row.for_single(t, [&](int64_t i) {
    const A one[] = {A(x[i])};
    mine.add(one);
  });
  const T* const wide = x + row.head;
  const auto add = [&](const WidePack<T>& pack) {
    A values[kPack];
    for (int i = 0; i < kPack; ++i) values[i] = A(pack.at[i]);
    mine.add(values);
  };
  int64_t p = t.lane();
  for (; p + (kAtOnce - 1) * t.lanes() < row.packs; p += kAtOnce * t.lanes()) {
    WidePack<T> packs[kAtOnce];
    for (int i = 0; i < kAtOnce; ++i) packs[i] = load_pack(wide + (p + i * t.lanes()) * kPack);
    for (int i = 0; i < kAtOnce; ++i) add(packs[i]);
  }
  for (; p < row.packs; p += t.lanes()) add(load_pack(wide + p * kPack));
  OnlineSum<A> overall;
  overall.largest = t.max(mine.largest);
  const A shift = overall.shift();
  return shift + math::log(t.sum(mine.sum * math::exp(mine.largest - shift)));
}

/// As cross_entropy_backward(); x and dx are equal or do not overlap.
template <class Team, class T, class A = Accumulate<T>>
HOST_DEVICE void cross_entropy_backward_packed(Team& t, const T* x, T* dx, int64_t n, int64_t target, A lse,
                                               TargetWeights<A> weights, A factor) {
  constexpr int kPack = kWide<T>;
  // Computed before any lane overwrites x[target].
  const A at_target = factor * (math::exp(A(x[target]) - lse) - weights.every - weights.target);
  t.barrier();
  const auto of = [&](A value) { return factor * (math::exp_fast(value - lse) - weights.every); };
  const PackedRow<T> row(x, n);
  row.for_single(t, [&](int64_t i) { dx[i] = T(of(A(x[i]))); });
  const T* const from = x + row.head;
  T* const to = dx + row.head;
  for (int64_t p = t.lane(); p < row.packs; p += t.lanes()) {
    WidePack<T> pack = load_pack(from + p * kPack);
    for (int i = 0; i < kPack; ++i) pack.at[i] = T(of(A(pack.at[i])));
    store_pack(to + p * kPack, pack);
  }
  t.barrier();
  if (t.lane() == 0) dx[target] = T(at_target);
}

}  // namespace tutti::row
