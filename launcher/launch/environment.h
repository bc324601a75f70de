#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// Environment variables by name.
using Variables = std::map<std::string, std::string, std::less<>>;

/// The environment of a launch: all that the detection of a scheduler depends on.
struct Environment {
  Variables variables;
  std::string host;   ///< this machine's name
  int64_t cores = 1;  ///< available to this process
  int64_t gpus = 0;   ///< installed here, whether visible or not
  /// The text of a file that the environment names; throws Error if it cannot be read.
  std::function<std::string(const std::string& path)> read;
  /// Whether a program is on the PATH.
  std::function<bool(std::string_view program)> has_program;
  /// Whether a file exists.
  std::function<bool(const std::string& path)> has_file;
  /// What a short command prints; nullopt if it cannot be started, fails or does not end within seconds.
  std::function<std::optional<std::string>(const std::vector<std::string>& argv)> ask;

  /// A variable's text; nullopt if it is not set.
  [[nodiscard]] std::optional<std::string> find(std::string_view name) const;
  /// A variable's text; empty if it is not set.
  [[nodiscard]] std::string text(std::string_view name) const;
  /// A variable's number; `otherwise` if it is not set. Throws Error naming it if it is not a whole number.
  [[nodiscard]] int64_t number(std::string_view name, int64_t otherwise) const;
  /// ask(); nullopt if that is not set.
  [[nodiscard]] std::optional<std::string> answer(const std::vector<std::string>& argv) const;
  /// The number of GPUs that are visible to a process here.
  [[nodiscard]] int64_t visible_gpus() const;
};

/// The environment and machine that this process runs in.
Environment this_environment();

/// The names of the variables that are passed to other hosts and into jobs: search paths, and settings of
/// MPI, CUDA, NCCL and Tutti. An allow list, because environments hold secrets. Sorted.
std::vector<std::string> forwarded_names(const Variables& variables);

/// The same without names of secrets (..._TOKEN, ..._PASSWORD, ...), except for those that the user has
/// `asked` for: other users can read the variables of a scheduler's job.
std::vector<std::string> without_secrets(const std::vector<std::string>& names,
                                         const std::vector<std::string>& asked);

/// The environment of the processes that a launch starts here: what forwarded_names() allows, what the
/// schedulers' own commands need, and `extra` names. Without the variables of an MPI rank: the
/// launch is not a rank. PATH is always set.
Variables child_environment(const Variables& variables, const std::vector<std::string>& extra);

}  // namespace tutti
