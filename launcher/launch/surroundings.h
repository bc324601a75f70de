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

/// All that an adapter may look at to find out where it was called. Tests make their own.
struct Surroundings {
  Variables variables;
  std::string host;   ///< this machine's name
  int64_t cores = 1;  ///< that this process may use
  int64_t gpus = 0;   ///< installed here, whether visible or not
  /// The text of a file that the environment names; throws Error if it cannot be read.
  std::function<std::string(const std::string& path)> read;
  /// Whether a program is on the PATH.
  std::function<bool(std::string_view program)> has_program;
  /// Whether a file is there.
  std::function<bool(const std::string& path)> has_file;
  /// What a short command prints; nullopt if it cannot be started, fails or does not end within seconds.
  std::function<std::optional<std::string>(const std::vector<std::string>& argv)> ask;

  /// A variable's text; nullopt if it is not set.
  [[nodiscard]] std::optional<std::string> find(std::string_view name) const;
  /// A variable's text; empty if it is not set.
  [[nodiscard]] std::string text(std::string_view name) const;
  /// A variable's number; `otherwise` if it is not set. Throws Error naming it if it is no whole number.
  [[nodiscard]] int64_t number(std::string_view name, int64_t otherwise) const;
  /// ask(), for surroundings that may be unable to.
  [[nodiscard]] std::optional<std::string> answer(const std::vector<std::string>& argv) const;
  /// How many GPUs CUDA_VISIBLE_DEVICES lets a process see here.
  [[nodiscard]] int64_t visible_gpus() const;
};

/// The environment and machine that this process runs in.
Surroundings this_surroundings();

/// The names of the variables that go to other hosts and into jobs: what programs and libraries need to be
/// found and MPI, CUDA, NCCL and Tutti are set up by. A list of what is allowed, because environments hold
/// secrets. Sorted.
std::vector<std::string> forwarded_names(const Variables& variables);

/// The same without those that hold secrets by their names (..._TOKEN, ..._PASSWORD, ...), except for what
/// the user has `asked` for: schedulers keep a job's variables where others can read them (qstat -f,
/// scontrol).
std::vector<std::string> without_secrets(const std::vector<std::string>& names,
                                         const std::vector<std::string>& asked);

/// The environment of the processes that a launch starts here: what forwarded_names() allows, what the
/// schedulers' own commands need, and `extra` names. What tells a process that it is a rank of an MPI job is
/// left out: the launch is no rank. PATH is always there.
Variables launch_environment(const Variables& variables, const std::vector<std::string>& extra);

}  // namespace tutti
