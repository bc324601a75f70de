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

/// How units of work that ranks share are done on one rank.
struct SharedWork {
  /// What the work is, for messages: "data.verify".
  std::string name;
  int threads = 1;
  /// Asked between pieces of a unit, from several threads; true on any rank ends the work on all. Empty:
  /// never.
  std::function<bool()> cancelled;
  /// Gets a line now and then while the work takes long, on rank 0. Empty: nobody.
  std::function<void(const std::string& text)> say;
};

/// What a unit's work tells of how far it is. Throws what share_work() expects when the work is cancelled.
using WorkProgress = std::function<void(int64_t cost_done)>;

/// Does each unit on exactly one rank: largest costs first, each to the rank with the least so far, and there
/// on whichever of its threads is free. `costs` are the same on all ranks, and so is the assignment. A result
/// holds no line break. Returns the results of all units on all ranks; empty if the work was cancelled.
/// Throws AgreedError on all ranks with the messages of all units that threw, the first few of them.
/// Collective.
std::optional<std::vector<std::string>> share_work(
    std::span<const int64_t> costs, Peers& peers, const SharedWork& options,
    FunctionRef<std::string(size_t unit, const WorkProgress& progress)> work);

/// The SHA-256 of a file's content, which is read in pieces; `progress` may be empty. Throws Error with the
/// path if there is no such regular file, it cannot be read, or is not `bytes` long (-1: of any length).
std::string sha256_of_file(const std::filesystem::path& path, int64_t bytes, const WorkProgress& progress);

}  // namespace tutti
