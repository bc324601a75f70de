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

/// A new file that is written once. Every error of the system becomes an Error with the path and its text
/// ("No space left on device"). For what a user names, core/io/target.h decides whether and where.
class OutputFile {
 public:
  /// Creates the file or empties an old one. Throws Error if what is there is a symbolic link or no regular
  /// file.
  explicit OutputFile(std::filesystem::path path);
  /// Creates the file; throws Error if anything is there. `mode` as for open(2). Messages name `shown`.
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
  /// Puts the data on the disk (fsync) and closes. Without it the file is closed as it is.
  void finish();
  [[nodiscard]] int64_t bytes() const noexcept { return bytes_; }
  /// As messages name it.
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  /// The descriptor, to set owner and mode.
  [[nodiscard]] int descriptor() const noexcept { return fd_; }

 private:
  OutputFile(std::filesystem::path path, int fd, bool owned)
      : path_(std::move(path)), fd_(fd), owned_(owned) {}

  std::filesystem::path path_;
  int fd_ = -1;
  bool owned_ = true;  ///< not standard output
  int64_t bytes_ = 0;
};

/// A file in memory, read-only. It stays readable after it was deleted, not after it was shortened.
class MappedFile {
 public:
  /// Throws Error if there is no such regular file, or only the pointer of git-lfs to one.
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

/// Puts a directory's entries on the disk: what was created, renamed or deleted in it.
void sync_directory(const std::filesystem::path& directory);

/// Replaces a file of this program's own, such as a record in a run directory, without asking: FileTarget
/// with force. After a crash either the old or the new one is there, whole: `write` writes and finishes the
/// file it is given beside `path`, which is then renamed, and the directory synced. If `write` throws, or a
/// signal ends the process, nothing is left of it. Throws Error if what is there is no regular file.
void replace_file(const std::filesystem::path& path, FunctionRef<void(OutputFile file)> write);
/// The same for a text.
void write_file_atomically(const std::filesystem::path& path, std::string_view text);

/// The whole of a text file. Throws Error if it cannot be read, is longer than `most` bytes, or is only the
/// pointer of git-lfs to a file.
std::string read_text_file(const std::filesystem::path& path, int64_t most);

}  // namespace tutti
