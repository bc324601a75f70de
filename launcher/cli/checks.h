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

/// Numbers of at least `low` and at most `high`, with a message that says so; CLI11's own prints the largest
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

/// Integers of 64 bits. CLI11 would take the nearest that there is for one beyond.
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

/// Has every option of a command and its subcommands that is an integer checked so.
inline void check_integers(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    if (option->get_type_name() == "INT") option->check(integer());
  }
  for (CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    check_integers(*command);
}

}  // namespace tutti
