#pragma once

#include <filesystem>
#include <string>

namespace tutti {

/// A file that is not complete yet, or a directory created for one: removed by the destructor unless kept. It
/// is also removed when SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGALRM, SIGTERM, SIGUSR1, SIGUSR2 or SIGXCPU ends
/// the process. The handler is installed while temporary paths exist; it removes them and raises the signal
/// again. Signals that the program itself catches or ignores are not changed. A directory is removed only if
/// it is empty.
class TemporaryPath {
 public:
  enum class Kind : unsigned char { kFile, kDirectory };

  /// Registers the name before anything is created, so that a signal in between leaves no file.
  explicit TemporaryPath(const std::filesystem::path& path, Kind kind = Kind::kFile);
  ~TemporaryPath();
  TemporaryPath(TemporaryPath&& other) noexcept;
  TemporaryPath& operator=(TemporaryPath&& other) = delete;
  TemporaryPath(const TemporaryPath&) = delete;
  TemporaryPath& operator=(const TemporaryPath&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  /// Makes the file or directory permanent.
  void keep() noexcept;

 private:
  std::filesystem::path path_;
  Kind kind_;
  void* slot_ = nullptr;  ///< for the signal handler; null once kept
  bool kept_ = false;
};

/// Defers the signals that remove temporary paths and end the process, for steps that must complete together.
/// Must not be nested.
class DeferredTermination {
 public:
  DeferredTermination();
  /// Raises the deferred signal, if there was one.
  ~DeferredTermination();
  DeferredTermination(const DeferredTermination&) = delete;
  DeferredTermination& operator=(const DeferredTermination&) = delete;
};

/// `.tutti-`, 16 random hexadecimal digits and `.tmp`: an unpredictable name.
std::string temporary_name();
/// Whether a name has that form.
bool is_temporary_name(std::string_view name);

}  // namespace tutti
