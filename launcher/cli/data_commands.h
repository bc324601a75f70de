#pragma once

#include "launcher/cli/command.h"

#include <string>

namespace tutti {

/// A subcommand of `tutti data` with what it does.
struct DataCommand {
  CLI::App* app = nullptr;
  CommandAction action;
};

// Each adds its subcommand and is in the file of its name.
DataCommand add_data_tokens(CLI::App& data);
DataCommand add_data_tokenizer(CLI::App& data);
DataCommand add_data_show(CLI::App& data);
DataCommand add_data_validate(CLI::App& data);

/// "12.3 MB".
std::string megabytes(double bytes);
/// Threads for --threads: all cores for 0.
int threads_or_all(int64_t threads);

}  // namespace tutti
