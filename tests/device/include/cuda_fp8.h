#pragma once

// Conversion to fp8, as in the CUDA Math API: E4M3 without infinity, E5M2.

#include <algorithm>
#include <cmath>
#include <cstdint>

enum __nv_fp8_interpretation_t { __NV_E4M3, __NV_E5M2 };
enum __nv_saturation_t { __NV_NOSAT, __NV_SATFINITE };

/// Rounds to nearest even. With __NV_SATFINITE, what is too large becomes the largest finite number; NaN
/// becomes 0x7f.
inline uint8_t __nv_cvt_float_to_fp8(float x, __nv_saturation_t, __nv_fp8_interpretation_t kind) {
  const int mantissa_bits = kind == __NV_E4M3 ? 3 : 2;
  const int bias = kind == __NV_E4M3 ? 7 : 15;
  const uint8_t most = kind == __NV_E4M3 ? 0x7e : 0x7b;
  const double largest = kind == __NV_E4M3 ? 448.0 : 57344.0;
  if (std::isnan(x)) return 0x7f;
  const auto sign = static_cast<uint8_t>(std::signbit(x) ? 0x80 : 0);
  const double magnitude = std::fabs(static_cast<double>(x));
  if (magnitude >= largest) return static_cast<uint8_t>(sign | most);
  // Units of the last place of the number's binade, subnormal numbers have those of the smallest one.
  int exponent = 0;
  (void)std::frexp(magnitude, &exponent);
  const int binade = magnitude == 0 ? 1 - bias : std::max(exponent - 1, 1 - bias);
  const double unit = std::ldexp(1.0, binade - mantissa_bits);
  const double units = std::nearbyint(magnitude / unit);  // the default mode: to nearest even
  // Codes of a binade follow each other, and so do binades.
  const auto code = static_cast<int>(units) + (binade - (1 - bias)) * (1 << mantissa_bits);
  return static_cast<uint8_t>(sign | std::min(code, static_cast<int>(most)));
}
