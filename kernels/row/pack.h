#pragma once

#include <tutti/core/dtype.h>
#include <tutti/core/host_device.h>

namespace tutti::row {

/// Neighbouring elements that one load or store moves. Pointers to it are aligned to its size.
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

}  // namespace tutti::row
