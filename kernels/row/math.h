#pragma once

#include <tutti/kernels/row/team.h>

#include <bit>
#include <cmath>
#include <cstdint>

// Elementary functions without branches and calls, so that loops over them become vector code. The fp64 overloads are
// the C library's: they serve gradient checks. Coefficients: S. Moshier, Cephes mathematical library, single precision.
namespace tutti::math {

HOST_DEVICE inline double exp(double x) { return std::exp(x); }
HOST_DEVICE inline double log(double x) { return std::log(x); }
HOST_DEVICE inline double tanh(double x) { return std::tanh(x); }
HOST_DEVICE inline double erf(double x) { return std::erf(x); }
HOST_DEVICE inline double sqrt(double x) { return std::sqrt(x); }
HOST_DEVICE inline float sqrt(float x) { return std::sqrt(x); }

/// e^x, within 4 ulp; 0 below -104, infinity above 88.73, NaN for NaN.
HOST_DEVICE inline float exp(float x) {
  const float low = x > -104.0F ? x : -104.0F;
  const float bounded = low < 89.0F ? low : 89.0F;
  const float n = __builtin_rintf(bounded * 1.44269504088896341F);
  const float r = (bounded - n * 0.693359375F) - n * -2.12194440e-4F;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * r * r + r + 1.0F;
  // 2^n in two factors: n reaches -150 and 128, beyond the exponents of one float.
  const auto whole = static_cast<int32_t>(n);
  const int32_t half = whole >> 1;
  const float a = std::bit_cast<float>((half + 127) << 23);
  const float b = std::bit_cast<float>((whole - half + 127) << 23);
  const float y = p * a * b;
  return x != x ? x : y;
}

/// Natural logarithm, within 4 ulp for normal x > 0; -infinity for 0, NaN for x < 0.
HOST_DEVICE inline float log(float x) {
  const auto bits = std::bit_cast<int32_t>(x);
  // Mantissa in [sqrt(1/2), sqrt(2)).
  const int32_t shifted = bits - 0x3f3504f3;
  const int32_t exponent = shifted >> 23;
  const float m = std::bit_cast<float>((shifted & 0x007fffff) + 0x3f3504f3) - 1.0F;
  const float z = m * m;
  float p = 7.0376836292e-2F;
  p = p * m - 1.1514610310e-1F;
  p = p * m + 1.1676998740e-1F;
  p = p * m - 1.2420140846e-1F;
  p = p * m + 1.4249322787e-1F;
  p = p * m - 1.6668057665e-1F;
  p = p * m + 2.0000714765e-1F;
  p = p * m - 2.4999993993e-1F;
  p = p * m + 3.3333331174e-1F;
  const auto e = static_cast<float>(exponent);
  float y = p * m * z + e * -2.12194440e-4F - 0.5F * z + m + e * 0.693359375F;
  y = x == __builtin_huge_valf() ? x : y;
  y = x == 0.0F ? -__builtin_huge_valf() : y;
  return x >= 0.0F ? y : __builtin_nanf("");
}

/// Hyperbolic tangent, within 4 ulp.
HOST_DEVICE inline float tanh(float x) {
  const float z = x * x;
  float p = -5.70498872745e-3F;
  p = p * z + 2.06390887954e-2F;
  p = p * z - 5.37397155531e-2F;
  p = p * z + 1.33314422036e-1F;
  p = p * z - 3.33332819422e-1F;
  const float small = p * z * x + x;
  const float magnitude = x < 0 ? -x : x;
  const float large = 1.0F - 2.0F / (exp(2.0F * magnitude) + 1.0F);
  const float signed_large = x < 0 ? -large : large;
  return magnitude < 0.625F ? small : signed_large;
}

/// Error function, absolute error below 5e-7. Source: Abramowitz & Stegun 1964, 7.1.26.
HOST_DEVICE inline float erf(float x) {
  const float magnitude = x < 0 ? -x : x;
  const float t = 1.0F / (1.0F + 0.3275911F * magnitude);
  const float p =
      t * (0.254829592F + t * (-0.284496736F + t * (1.421413741F + t * (-1.453152027F + t * 1.061405429F))));
  const float y = 1.0F - p * exp(-magnitude * magnitude);
  return x < 0 ? -y : y;
}

/// 1 / (1 + e^-x).
template <class T>
HOST_DEVICE inline T sigmoid(T x) {
  return T(1) / (T(1) + exp(-x));
}

}  // namespace tutti::math
