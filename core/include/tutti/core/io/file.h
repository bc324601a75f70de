#pragma once

#include <tutti/core/function_ref.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace tutti {

/// A new file that is written once. Every system error becomes an Error with the path and the error's text
/// ("No space left on device"). For paths from the user, use core/io/target.h.
class OutputFile {
 public:
  /// Creates the file or truncates an existing one. Throws Error if the path is a symbolic link or not a
  /// regular file.
  explicit OutputFile(std::filesystem::path path);
  /// Creates the file; throws Error if the path exists. `mode` as for open(2). Messages name `shown`.
  static OutputFile create(const std::filesystem::path& path, unsigned mode, std::filesystem::path shown);
  /// Writes to standard output, which finish() leaves open.
  static OutputFile standard_output();
  ~OutputFile();
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  /// Syncs the data to the disk (fsync) and closes. Without it the file is closed without a sync.
  void finish();
  [[nodiscard]] int64_t bytes() const noexcept { return bytes_; }
  /// The name in messages.
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  /// The file descriptor, to set owner and mode.
  [[nodiscard]] int descriptor() const noexcept { return fd_; }

 private:
  OutputFile(std::filesystem::path path, int fd, bool owned)
      : path_(std::move(path)), fd_(fd), owned_(owned) {}

  std::filesystem::path path_;
  int fd_ = -1;
  bool owned_ = true;  ///< not standard output
  int64_t bytes_ = 0;
};

/// A memory-mapped file, read-only. It remains readable after the file is deleted, but not after it is
/// truncated.
class MappedFile {
 public:
  /// Throws Error if there is no such regular file, or if it is a Git LFS pointer.
  static std::shared_ptr<const MappedFile> open(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }

 private:
  MappedFile() = default;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// Syncs a directory to the disk: the names created, renamed or deleted in it.
void sync_directory(const std::filesystem::path& directory);

/// Atomically replaces a file of this program, such as a record in a run directory; a FileTarget with force.
/// `write` writes and finishes a temporary file beside `path`, which is then renamed, and the directory is
/// synced: after a crash either the old or the new file is complete. If `write` throws, or a signal ends the
/// process, the temporary file is removed. Throws Error if the path exists and is not a regular file.
void replace_file(const std::filesystem::path& path, FunctionRef<void(OutputFile file)> write);
/// The same for a text.
void write_file_atomically(const std::filesystem::path& path, std::string_view text);

/// The content of a text file. Throws Error if it cannot be read, is longer than `most` bytes, or is a Git
/// LFS pointer.
std::string read_text_file(const std::filesystem::path& path, int64_t most);

}  // namespace tutti
