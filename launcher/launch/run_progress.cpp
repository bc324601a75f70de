#include "launcher/launch/run_progress.h"

#include "launcher/metrics/summary.h"

#include <tutti/core/error.h>

#include <algorithm>

namespace tutti {
namespace fs = std::filesystem;

std::string newest_checkpoint(const std::string& run_directory) {
  std::string newest;
  std::error_code error;
  for (const fs::directory_entry& entry :
       fs::directory_iterator(fs::path(run_directory) / "checkpoints", error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("step-")) newest = std::max(newest, name);
  }
  return newest;
}

std::optional<fs::file_time_type> summary_time(const std::string& run_directory) {
  std::error_code error;
  const fs::file_time_type written = fs::last_write_time(fs::path(run_directory) / "summary.json", error);
  return error ? std::nullopt : std::optional(written);
}

std::string run_reason(const std::string& run_directory, std::optional<fs::file_time_type> before) {
  const fs::path path = fs::path(run_directory) / "summary.json";
  const std::optional<fs::file_time_type> written = summary_time(run_directory);
  if (!written || written == before) return "";
  try {
    return read_summary(path).exit_reason;
  } catch (const Error&) {
    return "";
  }
}

}  // namespace tutti
