#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace tutti {

/// A file that records are appended to. A record reaches the operating system whole, at the latest a second
/// after the next one was appended; what a crash of this process leaves is a sequence of whole records, the
/// last of which may be cut off.
///
/// What cannot be written (a full disk) is kept in memory and tried again every second, up to kMostKeptBytes;
/// records beyond that are counted. A file that is removed or moved away is made anew before the next write;
/// one of somebody else in its place is not written to.
class RecordFile {
 public:
  static constexpr size_t kMostKeptBytes = size_t{64} << 20;
  using Tell = std::function<void(const std::string& text)>;

  /// Opens for appending; creates the file if it is not there. With `tell`, errors throw nothing here or
  /// later: `tell` gets a line when the file cannot be written, and one when it can again or is closed.
  /// Without it, they throw Error with the path and the system's reason.
  explicit RecordFile(std::filesystem::path path, Tell tell = {});
  /// Writes what is left.
  ~RecordFile();
  RecordFile(const RecordFile&) = delete;
  RecordFile& operator=(const RecordFile&) = delete;

  void append(std::string_view record);
  void flush();
  /// flush(), and the data is on the disk on return.
  void sync();
  /// Throws Error if the last attempt to write failed, with or without `tell`.
  void check() const;

 private:
  void open_file();
  [[nodiscard]] bool is_in_place() const;
  void write_kept();
  void settle(const std::function<void()>& work);

  std::filesystem::path path_;
  Tell tell_;
  std::string kept_;          ///< not written yet
  std::deque<size_t> sizes_;  ///< of the records in kept_; of the first one what is left
  std::string problem_;       ///< of the last attempt; empty if it succeeded
  int64_t lost_ = 0;
  std::chrono::steady_clock::time_point flushed_;
  int fd_ = -1;
  bool was_open_ = false;
  bool told_removal_ = false;
};

}  // namespace tutti
