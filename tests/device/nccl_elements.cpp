#include "tests/device/nccl_elements.h"

#include <bit>
#include <cmath>
#include <cstring>

namespace software_cuda {
namespace {

float half_value(uint16_t bits) {
  return static_cast<float>(std::bit_cast<_Float16>(bits));
}

}  // namespace

size_t size_of(ncclDataType_t type) {
  switch (type) {
    case ncclUint8:
      return 1;
    case ncclFloat16:
    case ncclBfloat16:
      return 2;
    case ncclInt32:
    case ncclFloat32:
      return 4;
    default:
      return 8;
  }
}

void add(std::byte* to, const std::byte* from, size_t count, ncclDataType_t type) {
  const auto each = [&]<class T>(T, auto sum) {
    for (size_t i = 0; i < count; ++i) {
      T a;
      T b;
      std::memcpy(&a, to + i * sizeof(T), sizeof(T));
      std::memcpy(&b, from + i * sizeof(T), sizeof(T));
      a = sum(a, b);
      std::memcpy(to + i * sizeof(T), &a, sizeof(T));
    }
  };
  const auto plain = [](auto a, auto b) { return static_cast<decltype(a)>(a + b); };
  switch (type) {
    case ncclUint8:
      return each(uint8_t{}, plain);
    case ncclInt32:
      return each(uint32_t{}, plain);
    case ncclInt64:
      return each(uint64_t{}, plain);
    case ncclFloat32:
      return each(float{}, plain);
    case ncclFloat64:
      return each(double{}, plain);
    case ncclFloat16:
      return each(uint16_t{}, [](uint16_t a, uint16_t b) {
        return std::bit_cast<uint16_t>(static_cast<_Float16>(half_value(a) + half_value(b)));
      });
    case ncclBfloat16:
      return each(uint16_t{}, [](uint16_t a, uint16_t b) {
        const float sum = std::bit_cast<float>(uint32_t{a} << 16) + std::bit_cast<float>(uint32_t{b} << 16);
        const auto u = std::bit_cast<uint32_t>(sum);
        return static_cast<uint16_t>(std::isnan(sum) ? (u >> 16) | 0x40U
                                                     : (u + 0x7fffU + ((u >> 16) & 1U)) >> 16);
      });
  }
}

}  // namespace software_cuda
