#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <string_view>

namespace tutti {

/// A file that records are appended to. A record reaches the operating system whole, at the latest a second
/// after the next one was appended; what a crash of this process leaves is a sequence of whole records.
class RecordFile {
 public:
  /// Opens for appending; creates the file if it is not there. Throws Error with the path.
  explicit RecordFile(std::filesystem::path path);
  /// Writes what is left; an error at that point is lost, so call flush() where it matters.
  ~RecordFile();
  RecordFile(const RecordFile&) = delete;
  RecordFile& operator=(const RecordFile&) = delete;

  /// Throws Error with the path and the system's reason if the file cannot be written.
  void append(std::string_view record);
  void flush();
  /// flush(), and the data is on the disk on return.
  void sync();

 private:
  std::filesystem::path path_;
  std::string pending_;
  std::chrono::steady_clock::time_point flushed_;
  int fd_ = -1;
};

}  // namespace tutti
