#include "launcher/report/axis.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>
#include <utility>

namespace tutti {
namespace {

/// The smallest of 1, 2, 5 times a power of ten that is at least `length`.
double round_step(double length) {
  const double power = std::pow(10.0, std::floor(std::log10(length)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    // Tolerates rounding errors of the logarithm.
    if (factor * power >= length * (1 - 1e-9)) return factor * power;
  }
  return 10 * power;
}

int decimals_of(double step) {
  return std::max(0, -static_cast<int>(std::floor(std::log10(step) + 1e-9)));
}

/// A number with the suffix or exponent that fits numbers up to `most`, precise to `step`.
std::string tick_label(double value, double step, double most) {
  if (value == 0) return "0";
  static constexpr std::array<std::pair<double, std::string_view>, 4> kSuffixes{
      {{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}}};
  if (most >= 1e4) {
    for (const auto& [unit, suffix] : kSuffixes) {
      if (most >= unit)
        return fmt::format("{:.{}f}{}", value / unit, std::min(6, decimals_of(step / unit)), suffix);
    }
  }
  if (most < 9.99e-3) {
    const double exponent = std::floor(std::log10(most) + 1e-9);
    const double unit = std::pow(10.0, exponent);
    return fmt::format("{:.{}f}e{:.0f}", value / unit, std::min(6, decimals_of(step / unit)), exponent);
  }
  return fmt::format("{:.{}f}", value, decimals_of(step));
}

std::vector<Tick> linear_ticks(const Axis& axis, int count) {
  const double most = std::max(std::abs(axis.low), std::abs(axis.high));
  std::vector<Tick> all;
  // A range may contain fewer than two multiples of a step: then with a smaller step.
  for (int wanted = std::max(1, count); all.size() < 2 && wanted < 100; wanted *= 2) {
    const double step = round_step((axis.high - axis.low) / wanted);
    all.clear();
    const double first = std::ceil(axis.low / step - 1e-9);
    for (int i = 0; i < 100 && (first + i) * step <= axis.high + 1e-9 * step; ++i) {
      const double at = (first + i) * step;
      all.push_back({at, tick_label(at, step, most)});
    }
  }
  return all;
}

std::vector<Tick> logarithmic_ticks(const Axis& axis, int count) {
  const double decades = std::log10(axis.high / axis.low);
  const auto every = static_cast<int>(std::max(1.0, std::ceil(decades / std::max(1, count))));
  std::vector<double> factors{1};
  if (decades < 1.2 * count / 2) factors = {1, 3};
  if (decades < 1.2 * count / 3) factors = {1, 2, 5};
  std::vector<Tick> all;
  const int first = static_cast<int>(std::floor(std::log10(axis.low) + 1e-9));
  const int lowest_inside = static_cast<int>(std::ceil(std::log10(axis.low) - 1e-9));
  const int last = static_cast<int>(std::ceil(std::log10(axis.high) - 1e-9));
  for (int exponent = first; exponent <= last; ++exponent) {
    if ((exponent - lowest_inside) % every != 0) continue;
    for (const double factor : factors) {
      const double value = factor * std::pow(10.0, exponent);
      if (value < axis.low * (1 - 1e-9) || value > axis.high * (1 + 1e-9)) continue;
      all.push_back({value, tick_label(value, std::pow(10.0, exponent), value)});
    }
  }
  return all.size() >= 2 ? all : linear_ticks(axis, count);
}

}  // namespace

double Axis::position(double value) const {
  if (scale == Scale::kLinear) return (value - low) / (high - low);
  if (value <= 0) return -1000;
  return std::log(value / low) / std::log(high / low);
}

std::vector<Tick> ticks(const Axis& axis, int count) {
  return axis.scale == Scale::kLinear ? linear_ticks(axis, count) : logarithmic_ticks(axis, count);
}

Axis axis_around(double low, double high, Scale scale) {
  if (!std::isfinite(low) || !std::isfinite(high) || low > high) return {};
  // Far beyond the values of training; keeps the arithmetic of ticks finite.
  low = std::clamp(low, -1e30, 1e30);
  high = std::clamp(high, -1e30, 1e30);
  if (scale == Scale::kLogarithmic && low > 1e-30) {
    const double margin = std::max(std::pow(high / low, 0.04), 1.02);
    return {low / margin, high * margin, Scale::kLogarithmic};
  }
  double margin = 0.05 * (high - low);
  if (margin <= 1e-9 * std::max(std::abs(low), std::abs(high)))
    margin = high != 0 ? 0.05 * std::abs(high) : 1;
  // No margin below zero.
  return {low == 0 ? 0 : low - margin, high + margin, Scale::kLinear};
}

}  // namespace tutti
