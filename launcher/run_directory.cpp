#include "launcher/run_directory.h"

#include "launcher/info/build.h"
#include "launcher/info/git.h"
#include "launcher/info/libraries.h"
#include "launcher/info/machine.h"
#include "launcher/metrics/summary.h"
#include "launcher/placement.h"

#include <tutti/core/checkpoint/file.h>
#include <tutti/core/checkpoint/json.h>
#include <tutti/core/checkpoint/sha256.h>
#include <tutti/core/error.h>
#include <tutti/kernels/cpu/blas.h>
#include <tutti/kernels/cpu/isa.h>

#include <nlohmann/json.hpp>

#include <array>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <string_view>

extern char** environ;

namespace tutti {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::chrono::milliseconds kPatience{500};
constexpr std::chrono::seconds kSupervisedPatience{60};
constexpr int64_t kMostManifestBytes = int64_t{64} << 20;

std::string utc_now() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm parts{};
  require(gmtime_r(&now, &parts) != nullptr, "gmtime_r: {}", system_error_text(errno));
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", parts.tm_year + 1900, parts.tm_mon + 1,
                     parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec);
}

/// Variables that change what a run does or where it runs. A list of what is allowed, because environments
/// hold secrets.
bool is_recorded(std::string_view variable) {
  static constexpr std::array<std::string_view, 9> kPrefixes{
      "TUTTI_",    "OMP_",  "OPENBLAS_NUM", "OMPI_MCA_", "OMPI_COMM_WORLD_SIZE",
      "PRTE_MCA_", "DNNL_", "ONEDNN_",      "MPICH_"};
  static constexpr std::array<std::string_view, 11> kNames{
      "LANG",      "LC_ALL",         "SLURM_JOB_ID", "SLURM_JOB_NODELIST", "SLURM_NTASKS",        "PBS_JOBID",
      "LSB_JOBID", "SLURM_JOB_NAME", "FI_PROVIDER",  "MALLOC_ARENA_MAX",   "CUDA_VISIBLE_DEVICES"};
  if (variable.find("TOKEN") != std::string_view::npos) return false;
  for (const std::string_view prefix : kPrefixes) {
    if (variable.starts_with(prefix)) return true;
  }
  for (const std::string_view name : kNames) {
    if (variable == name) return true;
  }
  return false;
}

Json recorded_environment() {
  Json all = Json::object();
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const size_t equals = text.find('=');
    if (equals == std::string_view::npos || !is_recorded(text.substr(0, equals))) continue;
    all[std::string(text.substr(0, equals))] = std::string(text.substr(equals + 1));
  }
  return all;
}

Json session_json(const RunIdentity& identity, const std::vector<std::string>& places) {
  std::error_code error;
  const fs::path here = fs::current_path(error);
  const MachineInfo machine = machine_info();
  Json ranks = Json::array();
  for (const std::string& place : places) ranks.push_back(Json::parse(place));
  Json libraries = Json::object();
  for (const auto& [library, version] : library_versions()) libraries[library] = version;
  return {
      {"started", utc_now()},
      {"resumed_step", identity.resumed_step},
      {"command_line", identity.command_line},
      {"working_directory", here.string()},
      {"seed", identity.seed},
      {"run_file_sha256", sha256(identity.run_file)},
      {"world_size", places.size()},
      {"ranks", ranks},
      {"tutti",
       {{"version", build_number()}, {"revision", build_revision()}, {"compiler", build_compiler()}}},
      {"working_directory_revision", git_revision(here)},
      {"instruction_set", name(best_isa())},
      {"math", cpu::math_library_version(cpu::math_library())},
      {"machine",
       {{"system", machine.system},
        {"kernel", machine.kernel},
        {"cpu", machine.cpu},
        {"cores", machine.cores},
        {"memory_bytes", machine.memory_bytes}}},
      {"libraries", libraries},
      {"environment", recorded_environment()},
  };
}

/// The sessions that a manifest lists; none if there is no manifest.
Json earlier_sessions(const fs::path& path) {
  std::error_code none;
  if (!fs::exists(path, none)) return Json::array();
  const std::string text = read_text_file(path, kMostManifestBytes);
  (void)parse_strict_json(text, path.string());
  Json manifest = Json::parse(text);
  require(manifest.is_object() && manifest.contains("sessions") && manifest["sessions"].is_array(),
          "{}: not the manifest of a run; expected a list 'sessions'", path.string());
  return manifest["sessions"];
}

/// What a directory holds of a run that is worth keeping; empty if nothing.
std::string found_run(const RunDirectory& run) {
  std::error_code none;
  if (fs::exists(run.summary(), none)) {
    try {
      const Summary summary = read_summary(run.summary());
      return fmt::format("a run that has ended after {} steps ({})", summary.steps, summary.exit_reason);
    } catch (const Error&) {
      return "a summary.json";
    }
  }
  if (fs::is_directory(run.checkpoints(), none) && !fs::is_empty(run.checkpoints(), none)) {
    return "checkpoints of a run";
  }
  if (fs::exists(run.metrics(), none) && fs::file_size(run.metrics(), none) > 0) return "metrics of a run";
  return "";
}

}  // namespace

RunDirectory::RunDirectory(fs::path path, ExistingRun existing, Peers& peers) : path_(std::move(path)) {
  peers.agree([&] {
    if (peers.rank() != 0) return;
    require(!path_.empty(), "run.dir: the run directory has no name");
    if (existing == ExistingRun::kRefuse) {
      const std::string found = found_run(*this);
      require(found.empty(), "{}: holds {}; go on with it by --resume, or choose another run.dir",
              path_.string(), found);
    }
    std::error_code error;
    fs::create_directories(path_, error);
    require(!error, "{}: the run directory cannot be created: {}", path_.string(), error.message());
    // A supervisor's next ranks come while those of another host may still be ending.
    const bool supervised = std::getenv("TUTTI_LAUNCH_RANKS") != nullptr;
    lock_.emplace(path_ / "lock", supervised ? kSupervisedPatience : kPatience);
  });
}

void RunDirectory::begin(const RunIdentity& identity, Peers& peers) const {
  const std::vector<std::string> places =
      peers.all_gather(Json{{"host", host_name()}, {"threads", identity.threads}}.dump());
  peers.agree([&] {
    if (peers.rank() != 0) return;
    Json sessions = identity.resumed_step > 0 ? earlier_sessions(manifest()) : Json::array();
    sessions.push_back(session_json(identity, places));
    const Json json{
        {"format", "tutti-run"}, {"run_file", run_file().filename().string()}, {"sessions", sessions}};
    write_file_atomically(run_file(), identity.run_file);
    write_file_atomically(manifest(), json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
    std::error_code error;
    fs::remove(summary(), error);
    require(!error, "{}: cannot be removed: {}", summary().string(), error.message());
  });
}

}  // namespace tutti
