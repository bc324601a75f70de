#include "launcher/run/own_run.h"

#include <tutti/core/error.h>
#include <tutti/core/io/file.h>
#include "core/config/tolerant.h"

#include <nlohmann/json.hpp>

#include <utility>

namespace tutti {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostManifestBytes = int64_t{64} << 20;

using Path = std::pair<const char*, std::string*>;

/// Paths that must be valid in another working directory.
std::vector<Path> paths_of(RunSettings& settings) {
  return {{"run.dir", &settings.run.dir},
          {"data.path", &settings.data.path},
          {"data.validation_path", &settings.data.validation_path},
          {"data.skip", &settings.data.skip},
          {"model.weights", &settings.model.weights},
          {"checkpoint.dir", &settings.checkpoint.dir},
          {"metrics.token_file", &settings.metrics.token_file},
          {"metrics.targets_dir", &settings.metrics.targets_dir}};
}

fs::path absolute(const fs::path& base, const fs::path& path) {
  std::error_code none;
  const fs::path from = base.empty() ? fs::current_path(none) : base;
  return (from / path).lexically_normal();
}

/// The manifest of a run; null if it is not a manifest, or cannot be read.
nlohmann::json manifest_of(const fs::path& directory) {
  try {
    nlohmann::json manifest = nlohmann::json::parse(
        read_text_file(directory / "manifest.json", kMostManifestBytes), nullptr, false);
    if (manifest.is_object()) return manifest;
  } catch (const Error&) {
    // The caller reports it.
  }
  return nullptr;
}

/// Where the last session of a run was started; empty if nobody knows.
fs::path recorded_working_directory(const fs::path& directory) {
  const nlohmann::json manifest = manifest_of(directory);
  if (!manifest.is_object() || !manifest.contains("sessions") || !manifest["sessions"].is_array() ||
      manifest["sessions"].empty()) {
    return {};
  }
  const nlohmann::json& last = manifest["sessions"].back();
  if (!last.is_object() || !last.contains("working_directory") || !last["working_directory"].is_string())
    return {};
  return last["working_directory"].get<std::string>();
}

/// The part of `path` below `directory`; empty if it is not below.
fs::path below(const fs::path& path, const fs::path& directory) {
  const fs::path relative = path.lexically_relative(directory);
  return relative.empty() || relative == "." || *relative.begin() == ".." ? fs::path() : relative;
}

}  // namespace

fs::path run_file_of(const fs::path& argument) {
  std::error_code none;
  if (!fs::is_directory(argument, none)) return argument;
  const fs::path file = argument / "run.yaml";
  require(fs::exists(file, none), "{}: contains no run.yaml; expected a run file, or the directory of a run",
          argument.string());
  return file;
}

bool is_own_run_file(const fs::path& run_file) {
  if (run_file.filename() != "run.yaml") return false;
  const fs::path directory = run_file.parent_path();
  std::error_code none;
  if (fs::exists(directory / "manifest.json.damaged", none)) return true;
  if (!fs::exists(directory / "manifest.json", none)) return false;
  const nlohmann::json manifest = manifest_of(directory);
  // A manifest that cannot be read is damaged; others contain their format.
  return !manifest.is_object() || (manifest.contains("format") && manifest["format"] == "tutti-run");
}

OwnRun read_own_run(const fs::path& directory) {
  OwnRun run;
  const fs::path here = directory.empty() ? fs::path(".") : directory;
  const fs::path file = here / "run.yaml";
  const Untaken untaken = read_tolerantly(read_text_file(file, kMaxConfigBytes), file.string(), run.settings);
  require(untaken.refused.empty(), "{}", fmt::join(untaken.refused, "\n"));
  for (const std::string& key : untaken.unknown) {
    run.warnings.push_back(
        fmt::format("{}: {}: this version does not have this key; it is ignored", file.string(), key));
  }
  const fs::path base = recorded_working_directory(here);
  const fs::path before = absolute(base, run.settings.run.dir);
  std::error_code none;
  for (const auto& [key, value] : paths_of(run.settings)) {
    if (value->empty()) continue;
    const fs::path full = absolute(base, *value);
    const fs::path inside = below(full, before);
    if (!inside.empty()) {
      *value = (here / inside).string();
    } else if (fs::path(*value).is_absolute() || fs::exists(full, none) || !fs::exists(*value, none)) {
      *value = full.string();
    }
  }
  run.settings.run.dir = here.string();
  return run;
}

RunSettings with_absolute_paths(RunSettings settings) {
  for (const auto& [key, value] : paths_of(settings)) {
    if (!value->empty()) *value = absolute({}, *value).string();
  }
  return settings;
}

std::vector<std::string> path_keys() {
  RunSettings settings;
  std::vector<std::string> keys;
  for (const auto& [key, value] : paths_of(settings)) keys.emplace_back(key);
  return keys;
}

}  // namespace tutti
