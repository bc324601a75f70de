#pragma once

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

namespace tutti {

/// More threads than any host has cores.
inline constexpr int kMostThreads = 4096;

/// Checks that a number is between `low` and `high`, with a readable message; CLI11's own prints the largest
/// double.
inline CLI::Validator between_numbers(double low, double high = std::numeric_limits<double>::infinity()) {
  const bool open = high > std::numeric_limits<double>::max();
  const std::string wanted =
      open ? fmt::format("at least {:.15g}", low) : fmt::format("between {:.15g} and {:.15g}", low, high);
  return CLI::Validator(
      [low, high, wanted](std::string& text) {
        double value = 0;
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
        const bool number = error == std::errc() && end == text.data() + text.size();
        if (number && std::isfinite(value) && value >= low && value <= high) return std::string();
        return fmt::format("expected a number, {}; got '{}'", wanted, text);
      },
      "");
}

/// 64-bit integers. CLI11 would clamp larger values.
inline CLI::Validator integer() {
  return CLI::Validator(
      [](std::string& text) {
        int64_t value = 0;
        const size_t sign = text.starts_with('+') && !text.starts_with("+-") ? 1 : 0;
        const auto [end, error] = std::from_chars(text.data() + sign, text.data() + text.size(), value);
        const bool whole = end == text.data() + text.size() && !text.empty();
        if (error == std::errc() && whole) return std::string();
        return error == std::errc::result_out_of_range && whole
                   ? fmt::format("expected an integer below 2^63; got '{}'", text)
                   : fmt::format("expected an integer; got '{}'", text);
      },
      "");
}

/// Adds this check to every integer option of a command and its subcommands.
inline void check_integers(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    if (option->get_type_name() == "INT") option->check(integer());
  }
  for (CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    check_integers(*command);
}

}  // namespace tutti
