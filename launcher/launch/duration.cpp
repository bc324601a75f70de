#include "launcher/launch/duration.h"

#include <tutti/core/error.h>

#include <charconv>
#include <vector>

namespace tutti {
namespace {

constexpr int64_t kMinute = 60;
constexpr int64_t kHour = 60 * kMinute;
constexpr int64_t kDay = 24 * kHour;
constexpr int64_t kLongest = 366 * kDay;

[[noreturn]] void refuse(std::string_view text) {
  fail("a time of '{}' cannot be understood; write 90s, 45m, 2h, 1d12h, 1:30:00 or 2-00:00:00", text);
}

/// The number at the beginning of `rest`, which loses it.
int64_t take_number(std::string_view& rest, std::string_view all) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
  if (error != std::errc() || value < 0 || value > kLongest) refuse(all);
  rest.remove_prefix(static_cast<size_t>(end - rest.data()));
  return value;
}

int64_t parse_clock(std::string_view text) {
  std::string_view rest = text;
  int64_t days = 0;
  if (text.find('-') != std::string_view::npos) {
    days = take_number(rest, text);
    if (!rest.starts_with('-')) refuse(text);
    rest.remove_prefix(1);
  }
  std::vector<int64_t> parts{take_number(rest, text)};
  while (rest.starts_with(':')) {
    rest.remove_prefix(1);
    parts.push_back(take_number(rest, text));
  }
  if (!rest.empty() || parts.size() != 3 || parts[1] > 59 || parts[2] > 59) refuse(text);
  return days * kDay + parts[0] * kHour + parts[1] * kMinute + parts[2];
}

int64_t unit_s(char unit, std::string_view text) {
  switch (unit) {
    case 's':
      return 1;
    case 'm':
      return kMinute;
    case 'h':
      return kHour;
    case 'd':
      return kDay;
    default:
      refuse(text);
  }
}

}  // namespace

int64_t parse_duration_s(std::string_view text) {
  if (text.empty() || text.front() < '0' || text.front() > '9') refuse(text);
  int64_t total = 0;
  if (text.find(':') != std::string_view::npos) {
    total = parse_clock(text);
  } else {
    int64_t last_unit = kLongest;
    for (std::string_view rest = text; !rest.empty();) {
      const int64_t count = take_number(rest, text);
      if (rest.empty()) refuse(text);
      const int64_t unit = unit_s(rest.front(), text);
      rest.remove_prefix(1);
      if (unit >= last_unit || count > kLongest / unit) refuse(text);
      last_unit = unit;
      total += count * unit;
    }
  }
  require(total > 0 && total <= kLongest, "a time of '{}' is not between a second and a year", text);
  return total;
}

std::string clock_text(int64_t seconds) {
  return fmt::format("{:02}:{:02}:{:02}", seconds / kHour, seconds / kMinute % 60, seconds % 60);
}

std::string clock_text_with_days(int64_t seconds) {
  return seconds < kDay ? clock_text(seconds)
                        : fmt::format("{}-{}", seconds / kDay, clock_text(seconds % kDay));
}

}  // namespace tutti
