#pragma once

#include <tutti/core/error.h>
#include <tutti/core/function_ref.h>

#include <string>
#include <vector>

namespace tutti {

/// What Peers::agree throws: every rank throws it alike, and the message names the rank where that matters.
class AgreedError : public Error {
 public:
  using Error::Error;
};

/// The other ranks as core sees them: the little that checkpoints, files and the training loop need of the
/// control plane. comm implements it over a Collective. All ranks call the same functions in the same order.
class Peers {
 public:
  virtual ~Peers() = default;
  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int size() const = 0;
  /// The strings of all ranks, by rank.
  virtual std::vector<std::string> all_gather(const std::string& mine) = 0;

  /// Returns when all ranks have called it.
  void barrier() { (void)all_gather(""); }
  /// Rank 0's string, on all ranks.
  std::string broadcast(const std::string& mine) { return all_gather(mine).front(); }
  /// Runs `work` on each rank and waits for all. If it threw on any, every rank throws one AgreedError with
  /// the message of the lowest such rank, prefixed "rank r: " when not all ranks failed with the same
  /// message. If it was interrupted on any (core/interruption.h) and threw on none, every rank throws
  /// Interrupted.
  void agree(FunctionRef<void()> work);
};

/// A world of one.
class SinglePeer final : public Peers {
 public:
  [[nodiscard]] int rank() const override { return 0; }
  [[nodiscard]] int size() const override { return 1; }
  std::vector<std::string> all_gather(const std::string& mine) override { return {mine}; }
};

}  // namespace tutti
