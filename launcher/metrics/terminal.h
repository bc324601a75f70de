#pragma once

#include <string>

namespace tutti {

/// The terminal that shows this process's standard output to the user.
///
/// Under mpirun a rank's standard output is a pipe or a pseudo-terminal of mpirun, independent of mpirun's
/// own output. If a launcher on the same host started this process, the launcher's output is used.
class Terminal {
 public:
  /// Examines this process and the launchers among its ancestors.
  static Terminal find();
  /// Whether output goes to a terminal, not to a file or a pipe.
  Terminal() = default;
  explicit Terminal(std::string device) : device_(std::move(device)) {}

  [[nodiscard]] bool present() const { return !device_.empty(); }
  /// Current number of columns; 80 if unknown.
  [[nodiscard]] int width() const;
  /// Whether it supports UTF-8, according to the locale.
  [[nodiscard]] static bool unicode();

 private:
  std::string device_;
};

}  // namespace tutti
