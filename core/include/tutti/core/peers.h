#pragma once

#include <tutti/core/error.h>
#include <tutti/core/function_ref.h>

#include <string>
#include <vector>

namespace tutti {

/// Thrown by Peers::agree on every rank, with the same message, which names the rank if only some failed.
class AgreedError : public Error {
 public:
  using Error::Error;
};

/// The interface of core to the other ranks: the parts of the control plane that checkpoints, files and the
/// training loop need. comm implements it with a Collective. All ranks call the same functions in the same
/// order.
class Peers {
 public:
  virtual ~Peers() = default;
  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int size() const = 0;
  /// The strings of all ranks, by rank.
  virtual std::vector<std::string> all_gather(const std::string& mine) = 0;

  /// Returns when all ranks have called it.
  void barrier() { (void)all_gather(""); }
  /// Returns rank 0's string on all ranks.
  std::string broadcast(const std::string& mine) { return all_gather(mine).front(); }
  /// Runs `work` on each rank and waits for all. If it threw on any, every rank throws one AgreedError with
  /// the message of the lowest such rank, prefixed "rank r: " when not all ranks failed with the same
  /// message. If it was interrupted on any (core/interruption.h) and threw on none, every rank throws
  /// Interrupted.
  void agree(FunctionRef<void()> work);
};

/// A world of one rank.
class SinglePeer final : public Peers {
 public:
  [[nodiscard]] int rank() const override { return 0; }
  [[nodiscard]] int size() const override { return 1; }
  std::vector<std::string> all_gather(const std::string& mine) override { return {mine}; }
};

}  // namespace tutti
