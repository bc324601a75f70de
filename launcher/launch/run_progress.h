#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace tutti {

/// The name of the newest checkpoint of a run; empty without one.
std::string newest_checkpoint(const std::string& run_directory);

/// When a run's summary was written, by the clock of its file system; nullopt without one.
std::optional<std::filesystem::file_time_type> summary_time(const std::string& run_directory);

/// Why the run says that it ended; empty if its summary is the one that was there `before`.
std::string run_reason(const std::string& run_directory,
                       std::optional<std::filesystem::file_time_type> before);

}  // namespace tutti
