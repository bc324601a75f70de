#pragma once

#include <csignal>

namespace tutti {

/// Holds the signals off that end or concern a launch, as long as it lives: they wait for the Supervisor, or
/// for the end of this. What nohup or a shell has told this process to ignore stays ignored.
class HeldSignals {
 public:
  /// Throws Error if the system refuses.
  HeldSignals();
  ~HeldSignals();
  HeldSignals(const HeldSignals&) = delete;
  HeldSignals& operator=(const HeldSignals&) = delete;

  [[nodiscard]] const sigset_t& set() const noexcept { return set_; }

 private:
  sigset_t set_{};
  sigset_t before_{};
};

}  // namespace tutti
