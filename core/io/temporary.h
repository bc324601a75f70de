#pragma once

#include <filesystem>
#include <string>

namespace tutti {

/// A name in the file system that goes away with this object unless it is kept: a file that is not complete
/// yet, or a directory made for one. It also goes away when SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGALRM,
/// SIGTERM, SIGUSR1, SIGUSR2 or SIGXCPU ends the process, by a handler that is there as long as there are
/// such names and then lets the signal do its work; signals that the program catches or ignores stay the
/// program's. A directory goes away only while it is empty.
class TemporaryPath {
 public:
  enum class Kind : unsigned char { kFile, kDirectory };

  /// Registers the name; nothing is made yet, so that no signal comes between making it and knowing it.
  explicit TemporaryPath(const std::filesystem::path& path, Kind kind = Kind::kFile);
  ~TemporaryPath();
  TemporaryPath(TemporaryPath&& other) noexcept;
  TemporaryPath& operator=(TemporaryPath&& other) = delete;
  TemporaryPath(const TemporaryPath&) = delete;
  TemporaryPath& operator=(const TemporaryPath&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  /// What is there stays from now on.
  void keep() noexcept;

 private:
  std::filesystem::path path_;
  Kind kind_;
  void* slot_ = nullptr;  ///< for the signal handler; null once it is kept
  bool kept_ = false;
};

/// While one lives, the signals that remove temporary names and end the process wait: for steps that must not
/// stop between two of them. Not one inside another.
class DeferredTermination {
 public:
  DeferredTermination();
  /// Lets the signal that came meanwhile do its work.
  ~DeferredTermination();
  DeferredTermination(const DeferredTermination&) = delete;
  DeferredTermination& operator=(const DeferredTermination&) = delete;
};

/// `.tutti-` and 16 random hexadecimal digits and `.tmp`: a name that nobody can take beforehand.
std::string temporary_name();
/// Whether a name has that form.
bool is_temporary_name(std::string_view name);

}  // namespace tutti
