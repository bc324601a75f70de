#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace tutti {

/// A file to which records are appended. A record is passed to the operating system at the latest one second
/// after the next one is appended. After a crash of the process the file contains complete records, of which
/// the last may be truncated.
///
/// Records that cannot be written (disk full) are kept in memory and retried every second, up to
/// kMostKeptBytes; records beyond that are dropped and counted. If the file is removed or moved, a new one is
/// created before the next write; a foreign file at the path is not written to.
class RecordFile {
 public:
  static constexpr size_t kMostKeptBytes = size_t{64} << 20;
  using Tell = std::function<void(const std::string& text)>;

  /// Opens for appending; creates the file if it does not exist. With `notify`, no errors are thrown:
  /// `notify` gets a line when writing fails, and one when it succeeds again or the file is closed. Without
  /// it, errors are thrown with the path and the system's reason.
  explicit RecordFile(std::filesystem::path path, Tell notify = {});
  /// Writes the remaining records.
  ~RecordFile();
  RecordFile(const RecordFile&) = delete;
  RecordFile& operator=(const RecordFile&) = delete;

  void append(std::string_view record);
  void flush();
  /// flush(), then syncs the data to the disk.
  void sync();
  /// Throws Error if the last attempt to write failed, with or without `notify`.
  void check() const;

 private:
  void open_file();
  [[nodiscard]] bool is_in_place() const;
  void write_kept();
  void settle(const std::function<void()>& work);

  std::filesystem::path path_;
  Tell notify_;
  std::string kept_;          ///< not written yet
  std::deque<size_t> sizes_;  ///< of the records in kept_; of the first one the remaining bytes
  std::string problem_;       ///< of the last attempt; empty if it succeeded
  int64_t lost_ = 0;
  std::chrono::steady_clock::time_point flushed_;
  int fd_ = -1;
  bool was_open_ = false;
  bool told_removal_ = false;
};

}  // namespace tutti
