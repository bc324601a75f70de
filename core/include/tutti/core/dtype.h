#pragma once

#include <tutti/core/error.h>
#include <tutti/core/host_device.h>

#include <bit>
#include <cstdint>
#include <string_view>
#include <type_traits>

namespace tutti {

/// Brain floating point: the upper half of an fp32. Conversion rounds to nearest even, NaN stays NaN.
struct BFloat16 {
  uint16_t bits = 0;

  BFloat16() = default;
  explicit constexpr BFloat16(float value) {
#if defined(__CUDA_ARCH__)
    if (!std::is_constant_evaluated()) {  // one instruction; a NaN has other bits than below
      asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
      return;
    }
#endif
    const auto u = std::bit_cast<uint32_t>(value);
    const uint32_t rounded = (u + 0x7fffU + ((u >> 16) & 1U)) >> 16;
    const uint32_t quiet = (u >> 16) | 0x40U;
    bits = static_cast<uint16_t>((u & 0x7fffffffU) > 0x7f800000U ? quiet : rounded);
  }
  constexpr operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
};

/// IEEE binary16, a storage type: arithmetic happens in fp32.
struct Float16 {
  uint16_t bits = 0;

  Float16() = default;
#if defined(__CUDA_ARCH__)  // device code has no _Float16
  HOST_DEVICE explicit Float16(float value) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value)); }
  HOST_DEVICE operator float() const {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
  }
#else
  HOST_DEVICE explicit Float16(float value) : bits(std::bit_cast<uint16_t>(static_cast<_Float16>(value))) {}
  HOST_DEVICE operator float() const { return static_cast<float>(std::bit_cast<_Float16>(bits)); }
#endif
};

enum class DType : uint8_t { kFloat32, kBFloat16, kFloat16, kFloat64, kInt32, kInt64, kUInt8 };

/// Bytes of one element.
constexpr int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
    case DType::kInt64:
      return 8;
    case DType::kFloat32:
    case DType::kInt32:
      return 4;
    case DType::kBFloat16:
    case DType::kFloat16:
      return 2;
    case DType::kUInt8:
      return 1;
  }
  return 0;
}

constexpr bool is_floating(DType dtype) {
  return dtype == DType::kFloat32 || dtype == DType::kBFloat16 || dtype == DType::kFloat16 ||
         dtype == DType::kFloat64;
}

/// "fp32", "bf16", "fp16", "fp64", "int32", "int64", "uint8": the spelling of run files and messages.
std::string_view name(DType dtype);

/// The inverse of name(); throws Error that lists the valid names.
DType dtype_from_name(std::string_view text);

template <class T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, float>)
    return DType::kFloat32;
  else if constexpr (std::is_same_v<T, BFloat16>)
    return DType::kBFloat16;
  else if constexpr (std::is_same_v<T, Float16>)
    return DType::kFloat16;
  else if constexpr (std::is_same_v<T, double>)
    return DType::kFloat64;
  else if constexpr (std::is_same_v<T, int32_t>)
    return DType::kInt32;
  else if constexpr (std::is_same_v<T, int64_t>)
    return DType::kInt64;
  else {
    static_assert(std::is_same_v<T, uint8_t>, "no dtype for this C++ type");
    return DType::kUInt8;
  }
}

/// The type that sums and intermediate results of T are kept in: double for double, else float.
template <class T>
using Accumulate = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <class T>
struct TypeTag {
  using type = T;
};

/// Calls `f(TypeTag<T>{})` for a floating dtype that kernels compute in: fp32, bf16, fp64.
/// Throws Error naming `op` for any other dtype.
template <class F>
decltype(auto) dispatch_compute(DType dtype, std::string_view op, F&& f) {
  switch (dtype) {
    case DType::kFloat32:
      return f(TypeTag<float>{});
    case DType::kBFloat16:
      return f(TypeTag<BFloat16>{});
    case DType::kFloat64:
      return f(TypeTag<double>{});
    default:
      fail("{}: dtype {} is not one that can be computed in (fp32, bf16, fp64)", op, name(dtype));
  }
}

/// Calls `f(TypeTag<T>{})` for any dtype.
template <class F>
decltype(auto) dispatch_all(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kFloat32:
      return f(TypeTag<float>{});
    case DType::kBFloat16:
      return f(TypeTag<BFloat16>{});
    case DType::kFloat16:
      return f(TypeTag<Float16>{});
    case DType::kFloat64:
      return f(TypeTag<double>{});
    case DType::kInt32:
      return f(TypeTag<int32_t>{});
    case DType::kInt64:
      return f(TypeTag<int64_t>{});
    case DType::kUInt8:
      return f(TypeTag<uint8_t>{});
  }
  fail("dispatch: not a dtype ({})", static_cast<int>(dtype));
}

/// Calls `f(TypeTag<T>{})` for int32 and int64 (token and label tensors); throws Error naming `op` otherwise.
template <class F>
decltype(auto) dispatch_index(DType dtype, std::string_view op, F&& f) {
  switch (dtype) {
    case DType::kInt32:
      return f(TypeTag<int32_t>{});
    case DType::kInt64:
      return f(TypeTag<int64_t>{});
    default:
      fail("{}: indices must be int32 or int64, not {}", op, name(dtype));
  }
}

}  // namespace tutti
