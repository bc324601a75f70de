#pragma once

#include <csignal>

namespace tutti {

/// Blocks the signals that end or concern a launch while it exists: they stay pending until the Supervisor
/// reads them, or until the end of this object. Signals that are ignored (nohup) stay ignored.
class BlockedSignals {
 public:
  /// Throws Error if the system refuses.
  BlockedSignals();
  ~BlockedSignals();
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

  [[nodiscard]] const sigset_t& set() const noexcept { return set_; }

 private:
  sigset_t set_{};
  sigset_t before_{};
};

}  // namespace tutti
