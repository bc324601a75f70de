#include "launcher/run_directory.h"

#include "comm/placement/placement.h"
#include "launcher/info/build.h"
#include "launcher/info/git.h"
#include "launcher/info/libraries.h"
#include "launcher/info/machine.h"
#include "launcher/launch/adapter.h"
#include "launcher/metrics/summary.h"
#include "launcher/overwrite.h"
#include "launcher/run/stop_signal.h"
#include "launcher/shared_directory.h"

#include <tutti/core/checkpoint/checkpoint.h>
#include <tutti/core/error.h>
#include <tutti/core/io/file.h>
#include <tutti/core/io/sha256.h>
#include "core/io/json.h"
#include "core/io/resolved_path.h"
#include "core/system_check.h"
#include "kernels/cpu/blas.h"
#include "kernels/cpu/isa.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cctype>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <random>
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
  require_system(gmtime_r(&now, &parts) != nullptr, "gmtime_r");
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", parts.tm_year + 1900, parts.tm_mon + 1,
                     parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec);
}

/// Variables that affect a run, recorded in the manifest. An allow-list, because environments contain secrets
/// and the manifest is readable by others. Of MPI's parameters only those of transports, collectives and
/// placement: others contain keys and addresses of the daemons.
bool is_recorded(std::string_view variable) {
  static constexpr std::array kPrefixes = std::to_array<std::string_view>(
      {"OMP_", "OPENBLAS_NUM", "DNNL_", "ONEDNN_", "OMPI_MCA_btl", "OMPI_MCA_pml", "OMPI_MCA_mtl",
       "OMPI_MCA_coll", "OMPI_MCA_osc", "OMPI_MCA_oob_tcp_if", "OMPI_MCA_rmaps_base", "OMPI_MCA_hwloc_base",
       "OMPI_MCA_mpi_", "OMPI_MCA_opal_", "PRTE_MCA_rmaps", "PRTE_MCA_hwloc", "MPICH_"});
  static constexpr std::array kNames = std::to_array<std::string_view>(
      {"LANG", "LC_ALL", "FI_PROVIDER", "MALLOC_ARENA_MAX", "CUDA_VISIBLE_DEVICES", "OMPI_COMM_WORLD_SIZE",
       "TUTTI_CPU_MATH", "TUTTI_DEBUG", "TUTTI_ISA", "TUTTI_LAUNCH_RANKS", "TUTTI_TUNING_DIR"});
  static constexpr std::array kSecret = std::to_array<std::string_view>(
      {"TOKEN", "SECRET", "PASS", "KEY", "CREDENTIAL", "AUTH", "COOKIE", "SESSION", "PRIVATE"});
  std::string upper(variable);
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  for (const std::string_view word : kSecret) {
    if (upper.find(word) != std::string::npos) return false;
  }
  for (const std::string_view prefix : kPrefixes) {
    if (variable.starts_with(prefix)) return true;
  }
  for (const std::string_view name : kNames) {
    if (variable == name) return true;
  }
  for (const Adapter* adapter : adapters()) {
    const std::vector<std::string_view>& recorded = adapter->variables.recorded;
    if (!variable.empty() && variable == adapter->variables.job_id) return true;
    if (std::find(recorded.begin(), recorded.end(), variable) != recorded.end()) return true;
  }
  return false;
}

Json recorded_environment() {
  Json all = Json::object();
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const size_t equals = text.find('=');
    if (equals == std::string_view::npos || !is_recorded(text.substr(0, equals))) continue;
    const std::string_view value = text.substr(equals + 1);
    // A URL may contain a password.
    const size_t url = value.find("://");
    const bool credentials = url != std::string_view::npos && value.find('@', url) != std::string_view::npos;
    all[std::string(text.substr(0, equals))] = credentials ? "(left out)" : std::string(value);
  }
  return all;
}

Json session_json(const RunIdentity& identity, const std::vector<std::string>& places) {
  std::error_code error;
  const fs::path here = fs::current_path(error);
  const MachineInfo machine = machine_info();
  Json ranks = Json::array();
  for (const std::string& place : places) ranks.push_back(Json::parse(place));
  Json changes = Json::array();
  for (const Difference& difference : identity.differences) {
    changes.push_back({{"key", difference.key}, {"checkpoint", difference.then}, {"now", difference.now}});
  }
  Json libraries = Json::object();
  for (const auto& [library, version] : library_versions()) libraries[library] = version;
  return {
      {"started", utc_now()},
      {"resumed_step", identity.resumed_step},
      {"changes", changes},
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

/// Reads the manifest of a run. Throws Error with the reason if it is invalid.
Json read_run_manifest(const fs::path& path) {
  const std::string text = read_text_file(path, kMostManifestBytes);
  (void)parse_strict_json(text, path.string());
  Json manifest = Json::parse(text);
  require(manifest.is_object() && manifest.contains("sessions") && manifest["sessions"].is_array(),
          "{}: not the manifest of a run; expected a list 'sessions'", path.string());
  return manifest;
}

/// The sessions that a manifest lists; none if there is no manifest.
Json earlier_sessions(const fs::path& path) {
  std::error_code none;
  return fs::exists(path, none) ? read_run_manifest(path)["sessions"] : Json::array();
}

std::string new_id() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}", random(), random());
}

/// A run's id: short, and valid in file names.
bool is_id(const Json& manifest) {
  constexpr size_t kDigits = 16;
  if (!manifest.contains("id") || !manifest["id"].is_string()) return false;
  const auto id = manifest["id"].get<std::string>();
  return id.size() == kDigits && id.find_first_not_of("0123456789abcdef") == std::string::npos;
}

/// Describes the results of a run in a directory; empty if there are none.
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

/// Whether the directory's manifest belongs to a run. A damaged one counts if it was set aside.
bool is_marked(const RunDirectory& run, ExistingRun existing) {
  std::error_code none;
  if (!fs::exists(run.manifest(), none)) return false;
  try {
    const Json manifest = Json::parse(read_text_file(run.manifest(), kMostManifestBytes), nullptr, false);
    if (manifest.is_object()) return manifest.contains("format") || manifest.contains("sessions");
  } catch (const Error&) {
    // Damaged.
  }
  return existing == ExistingRun::kResume;
}

/// A file that a run would overwrite although no run has written it; empty if there is none.
fs::path foreign_file(const RunDirectory& run, ExistingRun existing) {
  std::error_code none;
  if (is_marked(run, existing)) return {};
  if (fs::is_directory(run.checkpoints(), none) && !list_checkpoints(run.checkpoints()).empty()) return {};
  for (const fs::path& path : {run.run_file(), run.manifest(), run.tokenizer(), run.skip_list(),
                               run.tensorboard(), run.metrics_targets()}) {
    if (fs::exists(fs::symlink_status(path, none))) return path;
  }
  return {};
}

void warn_of_other_accounts(const fs::path& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0 || !others_can_write(status)) return;
  // On most systems an account's private group has the account's number.
  if ((status.st_mode & S_IWOTH) == 0 && status.st_gid == status.st_uid) return;
  fmt::print(stderr,
             "tutti: {}: other accounts can write to this directory, and can change or remove files of the "
             "run; run chmod go-w to prevent it\n",
             path.string());
}

}  // namespace

LockOptions run_lock_options(std::function<void(const std::string& text)> say) {
  const bool supervised = std::getenv("TUTTI_LAUNCH_RANKS") != nullptr;
  LockOptions options;
  options.subject = "a run";
  options.advice = "End it first, or choose another run.dir";
  options.timeout = supervised ? kSupervisedPatience : kPatience;
  options.supersedes_own_job = supervised;
  options.cancelled = &stop_signalled;
  options.log = std::move(say);
  return options;
}

RunDirectory::RunDirectory(fs::path path, ExistingRun existing, Peers& peers,
                           const std::function<void(const std::string& text)>& say)
    : path_(std::move(path)), id_(new_id()) {
  peers.agree([&] {
    if (peers.rank() != 0) return;
    require(!path_.empty(), "run.dir: the run directory has no name");
    if (existing == ExistingRun::kRefuse) {
      const std::string found = found_run(*this);
      require(found.empty(), "{}: contains {}; continue it with --resume, or choose another run.dir",
              path_.string(), found);
    }
    const fs::path foreign = foreign_file(*this, existing);
    require(foreign.empty(),
            "run.dir: {} exists, was not written by a run, and would be overwritten. Choose "
            "another run.dir",
            foreign.string());
    std::error_code error;
    fs::create_directories(path_, error);
    require(!error, "{}: the run directory cannot be created: {}", path_.string(), error.message());
    (void)resolve_path(path_);  // links of other accounts are not followed
    warn_of_other_accounts(path_);
    lock_.emplace(path_ / "lock", run_lock_options(say));
    if (existing != ExistingRun::kResume || !fs::exists(manifest(), error)) return;
    try {
      const Json earlier = read_run_manifest(manifest());
      earlier_id_ = is_id(earlier);
      if (earlier_id_) id_ = earlier["id"].get<std::string>();
    } catch (const Error& problem) {
      // Its records of earlier sessions are lost, the checkpoints are not.
      const fs::path aside = manifest().string() + ".damaged";
      fs::rename(manifest(), aside, error);
      const std::string reason = error.message();
      require(!error, "{}: is damaged and cannot be renamed: {}", manifest().string(), reason);
      notes_.push_back(fmt::format("{}; it is renamed to {}", problem.what(), aside.string()));
    }
  });
  const std::string told = peers.broadcast(id_ + (earlier_id_ ? "+" : "-"));
  earlier_id_ = told.back() == '+';
  id_ = told.substr(0, told.size() - 1);
  check_all_hosts_share(path_, "run.dir", peers);
}

void RunDirectory::begin(const RunIdentity& identity, Peers& peers,
                         const std::function<void(const std::string& text)>& warn) const {
  const std::vector<std::string> places =
      peers.all_gather(Json{{"host", host_name()}, {"threads", identity.threads}}.dump());
  peers.agree([&] {
    if (peers.rank() != 0) return;
    const auto attempt = [&](const std::function<void()>& work) {
      try {
        work();
      } catch (const Error& error) {
        if (identity.resumed_step == 0 || !warn) throw;
        warn(error.what());
      }
    };
    Json sessions = Json::array();
    if (identity.resumed_step > 0) attempt([&] { sessions = earlier_sessions(manifest()); });
    sessions.push_back(session_json(identity, places));
    const Json json{{"format", "tutti-run"},
                    {"id", id_},
                    {"run_file", run_file().filename().string()},
                    {"sessions", sessions}};
    attempt([&] {
      write_file_atomically(manifest(), json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
    });
    attempt([&] { write_or_overwrite(run_file(), identity.run_file); });
    std::error_code error;
    fs::remove(summary(), error);
    require(!error, "{}: cannot be removed: {}", summary().string(), error.message());
  });
}

void RunDirectory::require_held(Peers& peers) const {
  peers.agree([&] {
    if (lock_) lock_->require_held();
  });
}

}  // namespace tutti
