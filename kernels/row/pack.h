#pragma once

#include <tutti/core/dtype.h>
#include <tutti/core/host_device.h>

#include <cstdint>

namespace tutti::row {

/// Adjacent elements of one load or store. Pointers to it are aligned to its size.
template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Pack {
  T at[kCount];
};

/// Elements in 16 bytes, the widest load of a GPU.
template <class T>
inline constexpr int kWide = 16 / static_cast<int>(sizeof(T));

template <class T>
using WidePack = Pack<T, kWide<T>>;

template <class T>
HOST_DEVICE inline WidePack<T> load_pack(const T* from) {
  return *reinterpret_cast<const WidePack<T>*>(from);
}

template <class T>
HOST_DEVICE inline void store_pack(T* to, const WidePack<T>& pack) {
  *reinterpret_cast<WidePack<T>*>(to) = pack;
}

/// A row as packs, with the elements before and behind them that are in none.
template <class T>
struct PackedRow {
  static constexpr int64_t kPack = kWide<T>;
  int64_t head;   // elements before the first pack
  int64_t packs;  // between head and n
  int64_t n;

  HOST_DEVICE PackedRow(const T* x, int64_t elements) : n(elements) {
    const auto past = static_cast<int64_t>(reinterpret_cast<uintptr_t>(x) % 16 / sizeof(T));
    head = past == 0 ? 0 : kPack - past;
    head = head < n ? head : n;
    packs = (n - head) / kPack;
  }
  /// Calls f(i) for the elements of this lane that are in no pack.
  template <class Team, class F>
  HOST_DEVICE void for_single(Team& t, F f) const {
    for (int64_t i = t.lane(); i < head; i += t.lanes()) f(i);
    for (int64_t i = head + packs * kPack + t.lane(); i < n; i += t.lanes()) f(i);
  }
};

}  // namespace tutti::row
