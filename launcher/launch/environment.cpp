#include "launcher/launch/environment.h"

#include "comm/placement/placement.h"
#include "launcher/launch/adapter.h"
#include "launcher/launch/child.h"
#include "launcher/launch/quoting.h"
#include "launcher/launch/visible_devices.h"

#include <tutti/core/error.h>
#include <tutti/core/io/file.h>
#include <tutti/core/thread_pool.h>

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <span>

extern char** environ;

namespace tutti {
namespace {

namespace fs = std::filesystem;

constexpr const char* kUsualPath = "/usr/local/bin:/usr/bin:/bin";
constexpr int64_t kMostHostFileBytes = int64_t{16} << 20;
constexpr double kAnswerTimeout_s = 10;

bool is_one_of(std::string_view name, std::span<const std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool starts_with_one_of(std::string_view name, std::span<const std::string_view> prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [&](std::string_view prefix) { return name.starts_with(prefix); });
}

bool is_forwarded(std::string_view name) {
  static constexpr std::array<std::string_view, 15> kNames{"PATH",
                                                           "LD_LIBRARY_PATH",
                                                           "HOME",
                                                           "USER",
                                                           "LOGNAME",
                                                           "LANG",
                                                           "TZ",
                                                           "TMPDIR",
                                                           "SHELL",
                                                           "TERM",
                                                           "CPATH",
                                                           "MODULEPATH",
                                                           "LOADEDMODULES",
                                                           "OPAL_PREFIX",
                                                           "MALLOC_ARENA_MAX"};
  static constexpr std::array<std::string_view, 22> kPrefixes{
      "LC_",       "TUTTI_", "OMP_",   "OPENBLAS_", "DNNL_",     "ONEDNN_",    "CUDA_CACHE_", "CUDA_DEVICE_",
      "NCCL_",     "UCX_",   "FI_",    "IBV_",      "OMPI_MCA_", "OMPI_ALLOW", "PRTE_MCA_",   "PRTE_ALLOW",
      "PMIX_MCA_", "MPICH_", "I_MPI_", "MV2_",      "HYDRA_",    "NVIDIA_"};
  // CUDA_VISIBLE_DEVICES is not among them: each host has its own.
  return is_variable_name(name) && (is_one_of(name, kNames) || starts_with_one_of(name, kPrefixes));
}

/// What the schedulers' commands, authentication and remote shells read.
bool is_for_schedulers(std::string_view name) {
  static constexpr std::array<std::string_view, 2> kPrefixes{"MUNGE_", "SSH_"};
  static constexpr std::array<std::string_view, 4> kNames{"XDG_RUNTIME_DIR", "KRB5CCNAME", "PYTHONPATH",
                                                          "CUDA_VISIBLE_DEVICES"};
  bool read = starts_with_one_of(name, kPrefixes) || is_one_of(name, kNames);
  for (const Adapter* adapter : adapters()) {
    const SchedulerVariables& variables = adapter->variables;
    if (starts_with_one_of(name, variables.withheld)) return false;
    read = read || starts_with_one_of(name, variables.prefixes) || is_one_of(name, variables.names);
  }
  return read;
}

int64_t installed_gpus() {
  std::error_code error;
  int64_t count = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator("/dev", error)) {
    const std::string name = entry.path().filename().string();
    constexpr std::string_view kPrefix = "nvidia";
    if (name.starts_with(kPrefix) && name.size() > kPrefix.size() &&
        name.find_first_not_of("0123456789", kPrefix.size()) == std::string::npos) {
      ++count;
    }
  }
  return count;
}

}  // namespace

std::optional<std::string> Environment::find(std::string_view name) const {
  const auto found = variables.find(name);
  return found == variables.end() ? std::nullopt : std::optional(found->second);
}

std::string Environment::text(std::string_view name) const {
  return find(name).value_or("");
}

int64_t Environment::number(std::string_view name, int64_t otherwise) const {
  const std::optional<std::string> found = find(name);
  if (!found) return otherwise;
  int64_t value = 0;
  const char* const last = found->data() + found->size();
  const auto [end, error] = std::from_chars(found->data(), last, value);
  require(error == std::errc() && end == last, "{}='{}' in the environment is not a whole number", name,
          *found);
  return value;
}

std::optional<std::string> Environment::answer(const std::vector<std::string>& argv) const {
  return ask ? ask(argv) : std::nullopt;
}

int64_t Environment::visible_gpus() const {
  return visible_count(parse_visible_devices(find("CUDA_VISIBLE_DEVICES")), gpus);
}

Environment this_environment() {
  Environment here;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const size_t equals = text.find('=');
    if (equals == std::string_view::npos) continue;
    here.variables.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  here.host = host_name();
  here.cores = usable_cores();
  here.gpus = installed_gpus();
  here.read = [](const std::string& path) { return read_text_file(path, kMostHostFileBytes); };
  here.has_file = [](const std::string& path) { return access(path.c_str(), F_OK) == 0; };
  here.has_program = [path = here.find("PATH").value_or(kUsualPath)](std::string_view program) {
    for (size_t begin = 0; begin <= path.size();) {
      const size_t end = std::min(path.find(':', begin), path.size());
      const fs::path folder(path.substr(begin, end - begin));
      if (!folder.empty() && access((folder / program).c_str(), X_OK) == 0) return true;
      begin = end + 1;
    }
    return false;
  };
  here.ask = [variables =
                  here.variables](const std::vector<std::string>& argv) -> std::optional<std::string> {
    try {
      const Output output = run_to_end(argv, child_environment(variables, {}), kAnswerTimeout_s);
      return output.exit_code == 0 ? std::optional(output.out) : std::nullopt;
    } catch (const Error&) {
      return std::nullopt;
    }
  };
  return here;
}

std::vector<std::string> forwarded_names(const Variables& variables) {
  std::vector<std::string> names;
  for (const auto& [name, value] : variables) {
    if (is_forwarded(name)) names.push_back(name);
  }
  return names;
}

std::vector<std::string> without_secrets(const std::vector<std::string>& names,
                                         const std::vector<std::string>& asked) {
  static constexpr std::array<std::string_view, 6> kSigns{"TOKEN",      "SECRET",  "PASSW",
                                                          "CREDENTIAL", "API_KEY", "PRIVATE"};
  std::vector<std::string> kept;
  for (const std::string& name : names) {
    const bool secret = std::any_of(kSigns.begin(), kSigns.end(), [&](std::string_view sign) {
      return name.find(sign) != std::string::npos;
    });
    if (!secret || std::find(asked.begin(), asked.end(), name) != asked.end()) kept.push_back(name);
  }
  return kept;
}

Variables child_environment(const Variables& variables, const std::vector<std::string>& extra) {
  Variables kept;
  for (const auto& [name, value] : variables) {
    if (is_forwarded(name) || is_for_schedulers(name) ||
        std::find(extra.begin(), extra.end(), name) != extra.end()) {
      kept.emplace(name, value);
    }
  }
  // mpirun looks for ssh there, and ends without one.
  kept.try_emplace("PATH", kUsualPath);
  return kept;
}

}  // namespace tutti
