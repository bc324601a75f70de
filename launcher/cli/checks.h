#pragma once

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <charconv>
#include <limits>
#include <string>

namespace tutti {

/// Numbers of at least `low` and at most `high`, with a message that says so; CLI11's own prints the largest
/// double.
inline CLI::Validator between_numbers(double low, double high = std::numeric_limits<double>::infinity()) {
  const bool open = high > std::numeric_limits<double>::max();
  const std::string wanted =
      open ? fmt::format("at least {:g}", low) : fmt::format("between {:g} and {:g}", low, high);
  return CLI::Validator(
      [low, high, wanted](std::string& text) {
        double value = 0;
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
        const bool number = error == std::errc() && end == text.data() + text.size();
        if (number && value >= low && value <= high) return std::string();
        return fmt::format("expected a number, {}; got '{}'", wanted, text);
      },
      "");
}

}  // namespace tutti
