#pragma once

#include <tutti/comm/collective.h>
#include <tutti/core/dtype.h>
#include <tutti/core/host_device.h>

#include <type_traits>

namespace tutti {

/// Combines two contributions of Reduce, with the same bits on the host and in kernels. Integers wrap around;
/// bf16 and fp16 are added in fp32 and rounded.
template <class T>
HOST_DEVICE T sum_of(T a, T b) {
  if constexpr (std::is_same_v<T, int32_t> || std::is_same_v<T, int64_t>) {
    using U = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
  } else if constexpr (std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>) {
    return T(static_cast<float>(a) + static_cast<float>(b));
  } else {
    return static_cast<T>(a + b);
  }
}

/// One test per operand: a NaN on the left is kept, one on the right fails the comparison and is returned.
template <class T>
HOST_DEVICE T larger_of(T a, T b) {
  return (a > b || a != a) ? a : b;
}
template <class T>
HOST_DEVICE T smaller_of(T a, T b) {
  return (a < b || a != a) ? a : b;
}

/// A binary operation of Reduce as a template, for loops and kernels specialised for it.
template <Reduce op, class T>
HOST_DEVICE T combined(T a, T b) {
  if constexpr (op == Reduce::kSum)
    return sum_of(a, b);
  else if constexpr (op == Reduce::kMax)
    return larger_of(a, b);
  else
    return smaller_of(a, b);
}

}  // namespace tutti
