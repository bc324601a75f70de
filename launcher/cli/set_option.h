#pragma once

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <string>
#include <vector>

namespace tutti {

/// Adds --set KEY=VALUE, which may be repeated. Anything else is a usage error; keys and values are checked
/// with the run file.
inline void add_set_option(CLI::App& app, std::vector<std::string>& sets, const std::string& help) {
  const CLI::Validator pair(
      [](std::string& text) {
        return text.find('=') == std::string::npos ? fmt::format("expected KEY=VALUE; got '{}'", text)
                                                   : std::string();
      },
      "");
  app.add_option("--set", sets, help)->type_name("KEY=VALUE")->check(pair)->allow_extra_args(false);
}

}  // namespace tutti
