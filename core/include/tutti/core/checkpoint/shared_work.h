#pragma once

#include <tutti/core/peers.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace tutti {

/// How one rank processes its units of shared work.
struct SharedWork {
  /// The name of the work in messages: "data.verify".
  std::string name;
  int threads = 1;
  /// Polled between pieces of a unit, from several threads; true on any rank cancels the work on all. Empty:
  /// never.
  std::function<bool()> cancelled;
  /// Called with a progress line at intervals, on rank 0. Empty: no output.
  std::function<void(const std::string& text)> log;
};

/// Reports a unit's progress. Throws the exception that share_work() expects when the work is cancelled.
using WorkProgress = std::function<void(int64_t cost_done)>;

/// Processes each unit on exactly one rank: largest cost first, each on the rank with the least cost so far,
/// on any free thread. `costs` are the same on all ranks, and so is the assignment. A result must not contain
/// a line break. Returns the results of all units on all ranks; empty if the work was cancelled. Throws
/// AgreedError on all ranks with the first few messages of the units that threw. Collective.
std::optional<std::vector<std::string>> share_work(
    std::span<const int64_t> costs, Peers& peers, const SharedWork& options,
    FunctionRef<std::string(size_t unit, const WorkProgress& progress)> work);

/// The SHA-256 of a file's content, read in pieces; `progress` may be empty. Throws Error with the path if
/// there is no such regular file, it cannot be read, or is not `bytes` long (-1: any length).
std::string sha256_of_file(const std::filesystem::path& path, int64_t bytes, const WorkProgress& progress);

}  // namespace tutti
