#pragma once

#include "kernels/row/team.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

// Elementary functions without branches and calls, so that the compiler vectorises loops over them. Error
// bounds are in units in the last place (ulp) of the fp32 result; NaN gives NaN. The fp64 overloads, for
// gradient checks, call the C library. Polynomials are minimax approximations (Remez) on the given ranges.
//
// Kernels are compiled with -fassociative-math, which breaks algorithms that need more precision than one
// float has (rounding by adding and subtracting a large number, a constant split into two). No function here
// depends on the order of a sum.
namespace tutti::math {

HOST_DEVICE inline double exp(double x) {
  return std::exp(x);
}
HOST_DEVICE inline double log(double x) {
  return std::log(x);
}
HOST_DEVICE inline double tanh(double x) {
  return std::tanh(x);
}
HOST_DEVICE inline double erf(double x) {
  return std::erf(x);
}
HOST_DEVICE inline double sqrt(double x) {
  return std::sqrt(x);
}
HOST_DEVICE inline float sqrt(float x) {
  return std::sqrt(x);
}

/// a / b for b in [1, infinity]. On a GPU within 2 ulp, and 0 for b above 2^126; there a division that rounds
/// correctly takes about ten instructions.
HOST_DEVICE inline float quotient(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fdividef(a, b);
#else
  return a / b;
#endif
}
HOST_DEVICE inline double quotient(double a, double b) {
  return a / b;
}

namespace detail {

/// x = n ln2 + r with |r| <= ln2 / 2, for |x| < 2^20.
struct Reduced {
  int32_t n;
  float r;
};
HOST_DEVICE inline Reduced reduce_by_ln2(float x) {
  const float half = std::bit_cast<float>((std::bit_cast<uint32_t>(x) & 0x80000000U) | 0x3f000000U);
  const auto n = static_cast<int32_t>(x * 1.44269504F + half);  // truncated: x log2(e), rounded to nearest
  return {n, x - static_cast<float>(n) * 0.693147180559945F};
}

/// e^r - 1 for |r| <= ln2 / 2.
HOST_DEVICE inline float expm1_reduced(float r) {
  float p = 1.388248522e-03F;
  p = p * r + 8.366713300e-03F;
  p = p * r + 4.166720435e-02F;
  p = p * r + 1.666654199e-01F;
  p = p * r + 4.999999702e-01F;
  return p * (r * r) + r;
}

/// 2^n for n in [-126, 127].
HOST_DEVICE inline float power_of_two(int32_t n) {
  return std::bit_cast<float>(static_cast<uint32_t>(n + 127) << 23);
}

/// y, or NaN if x is NaN. Uses bit operations: for a conditional expression, the compiler may emit a branch
/// around the computation of y.
HOST_DEVICE inline float nan_like(float x, float y) {
  const uint32_t is_nan = (std::bit_cast<uint32_t>(x) & 0x7fffffffU) > 0x7f800000U ? 1U : 0U;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(y) | ((0U - is_nan) & 0x7fc00000U));
}

HOST_DEVICE inline float clamp(float x, float low, float high) {  // NaN stays NaN
  x = x < low ? low : x;
  return x > high ? high : x;
}

}  // namespace detail

/// e^x, within 5 ulp (2 for |x| < 20); 0 below -104, infinity above 88.73. Without fused multiply-add (the
/// baseline instruction set) within 2 + |x| ulp.
HOST_DEVICE inline float exp(float x) {
#if defined(__CUDA_ARCH__)
  return ::expf(x);  // by the unit for 2^x
#else
  // Clamped to [-105, 89] as integers, including NaN, whose conversion to an integer is undefined.
  // Comparisons of floats would cause branches here that prevent vectorisation.
  const int32_t below = std::min(std::bit_cast<int32_t>(x), std::bit_cast<int32_t>(89.0F));
  const uint32_t bounded = std::min(std::bit_cast<uint32_t>(below), std::bit_cast<uint32_t>(-105.0F));
  const auto [n, r] = detail::reduce_by_ln2(std::bit_cast<float>(bounded));
  const float p = detail::expm1_reduced(r) + 1.0F;
  // 2^n as two factors: n is from -151 to 128, more than the exponents of one float. The first is applied to
  // the bits, so that the compiler cannot multiply the factors with each other.
  const int32_t half = n >> 1;
  const float scaled = std::bit_cast<float>(std::bit_cast<int32_t>(p) + half * (1 << 23));
  return detail::nan_like(x, scaled * detail::power_of_two(n - half));
#endif
}

/// The larger; b if a is NaN.
HOST_DEVICE inline float larger(float a, float b) {
#if defined(__CUDA_ARCH__)
  return fmaxf(a, b);  // one instruction
#else
  return a > b ? a : b;
#endif
}
HOST_DEVICE inline double larger(double a, double b) {
  return a > b ? a : b;
}

/// e^x for sums of many: on a GPU within (2 + 1.2 |x|) ulp in two instructions, and 0 below -87.3.
HOST_DEVICE inline float exp_fast(float x) {
#if defined(__CUDA_ARCH__)
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x * 1.44269504F));
  return power;
#else
  return exp(x);
#endif
}
HOST_DEVICE inline double exp_fast(double x) {
  return exp(x);
}

/// Natural logarithm, within 2 ulp; -infinity for 0, NaN for x < 0.
HOST_DEVICE inline float log(float x) {
  constexpr float kSmallestNormal = 1.17549435e-38F;
  constexpr float kInfinity = __builtin_huge_valf();
  const bool tiny = x < kSmallestNormal;
  const uint32_t bits = std::bit_cast<uint32_t>(tiny ? x * 8388608.0F : x);
  // x = m 2^e with m in [sqrt(1/2), sqrt(2)).
  const uint32_t shifted = bits - 0x3f3504f3U;
  const int32_t exponent = (static_cast<int32_t>(shifted) >> 23) - (tiny ? 23 : 0);
  const float f = std::bit_cast<float>((shifted & 0x007fffffU) + 0x3f3504f3U) - 1.0F;
  float p = 6.746634096e-02F;
  p = p * f - 1.167564541e-01F;
  p = p * f + 1.188816205e-01F;
  p = p * f - 1.240558997e-01F;
  p = p * f + 1.421955228e-01F;
  p = p * f - 1.666799635e-01F;
  p = p * f + 2.000211924e-01F;
  p = p * f - 2.500000894e-01F;
  p = p * f + 3.333331347e-01F;
  const float z = f * f;
  const float y = (p * z * f - 0.5F * z + f) + static_cast<float>(exponent) * 0.693147180559945F;
  const float positive = x < kInfinity ? y : x;  // infinity and NaN are returned as they are
  return x > 0.0F ? positive : (x == 0.0F ? -kInfinity : __builtin_nanf(""));
}

/// Hyperbolic tangent, within 4 ulp.
HOST_DEVICE inline float tanh(float x) {
  // With t = e^(-2|x|) - 1: tanh |x| = -t / (t + 2), exact near 0 and bounded.
  const float magnitude = x < 0.0F ? -x : x;
  const auto [n, r] = detail::reduce_by_ln2(-2.0F * (magnitude < 10.0F ? magnitude : 10.0F));
  const float q = detail::expm1_reduced(r);
  const float t = n == 0 ? q : detail::power_of_two(n) * (q + 1.0F) - 1.0F;
  const float y = quotient(t, t + 2.0F);
  return detail::nan_like(x, x > 0.0F ? -y : y);
}

/// Error function, within 8 ulp.
HOST_DEVICE inline float erf(float x) {
  // x P(x^2) / Q(x^2); from 3.92 on the result rounds to 1.
  const float bounded = detail::clamp(x, -3.92F, 3.92F);
  const float z = bounded * bounded;
  float p = 2.049561090e-06F;
  p = p * z + 2.848336590e-04F;
  p = p * z + 3.765344853e-03F;
  p = p * z + 5.274787545e-02F;
  p = p * z + 1.904063672e-01F;
  p = p * z + 1.128379107e+00F;
  float q = 3.808360998e-05F;
  q = q * z + 1.162386034e-03F;
  q = q * z + 1.496875379e-02F;
  q = q * z + 1.141083091e-01F;
  q = q * z + 5.020759702e-01F;
  q = q * z + 1.0F;
  const float y = quotient(bounded * p, q);
  const float upper = x >= 3.92F ? 1.0F : y;
  return x <= -3.92F ? -1.0F : upper;
}

/// 1 / (1 + e^-x), with the error of exp if the result is above 1e-38, else 0.
template <class T>
HOST_DEVICE inline T sigmoid(T x) {
  return quotient(T(1), T(1) + exp(-x));
}

}  // namespace tutti::math
