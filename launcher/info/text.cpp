#include "launcher/info/text.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <string_view>

namespace tutti {

std::string bytes_text(int64_t bytes) {
  static constexpr std::array<std::string_view, 6> kUnits{"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1023.95 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits.at(unit));
}

std::string count_text(double count) {
  if (!std::isfinite(count)) return "?";
  static constexpr std::array<std::string_view, 5> kSuffixes{"", "k", "M", "G", "T"};
  size_t suffix = 0;
  // 999.5 would be printed as 1000.
  while (std::abs(count) >= 999.5 && suffix + 1 < kSuffixes.size()) {
    count /= 1000;
    ++suffix;
  }
  const double size = std::abs(count);
  const int digits = size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2;
  if (suffix == 0 && count == std::floor(count)) return fmt::format("{:.0f}", count);
  return fmt::format("{:.{}f}{}", count, digits, kSuffixes.at(suffix));
}

std::string duration_text(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e15) return "?";
  const auto s = static_cast<int64_t>(std::llround(seconds));
  if (s < 3600) return fmt::format("{}:{:02}", s / 60, s % 60);
  if (s < 48 * 3600) return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
  return fmt::format("{} d {} h", s / 86400, s / 3600 % 24);
}

}  // namespace tutti
