#pragma once

#include <string>

namespace tutti {

/// The terminal that a person watches this process's standard output on.
///
/// Under mpirun a rank's own standard output is a pipe or a pseudo-terminal of mpirun's, whatever mpirun's
/// output is. So where a launcher on the same host started this process, the launcher's output counts.
class Terminal {
 public:
  /// Looks at this process and at the launchers it descends from.
  static Terminal find();
  /// None: output goes to a file or a pipe.
  Terminal() = default;
  explicit Terminal(std::string device) : device_(std::move(device)) {}

  [[nodiscard]] bool present() const { return !device_.empty(); }
  /// Columns as of now; 80 where it cannot be told.
  [[nodiscard]] int width() const;
  /// Whether it takes UTF-8, by the locale.
  [[nodiscard]] static bool unicode();

 private:
  std::string device_;
};

}  // namespace tutti
