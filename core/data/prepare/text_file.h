#pragma once

#include <tutti/core/io/file.h>
#include <tutti/core/thread_pool.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace tutti {

/// How bytes become text.
enum class TextInput : uint8_t {
  kUtf8,   ///< valid UTF-8 only; a byte-order mark at the beginning is removed
  kBytes,  ///< all bytes unchanged
};

/// Errors found in bytes that should be UTF-8 text.
struct TextFaults {
  int64_t zeros = 0;         ///< bytes of value 0
  int64_t invalid = 0;       ///< bytes that belong to no well-formed character
  int64_t first_fault = -1;  ///< the first of either; -1 if there is none
};

/// Counts on all threads of the pool.
TextFaults find_text_faults(std::string_view bytes, ThreadPool& pool);

/// The binary format that the first bytes indicate ("a gzip file"); empty if none.
std::string_view binary_format(std::string_view bytes);

/// A text file, mapped.
struct TextFile {
  std::shared_ptr<const MappedFile> file;
  std::string_view text;
  bool had_mark = false;  ///< a byte-order mark was removed
};

/// Opens a text file. Throws Error with the file and a remedy if it is empty or, with TextInput::kUtf8, is
/// not valid UTF-8: compressed or another binary format, UTF-16, or with zero or invalid bytes, which are
/// counted.
TextFile open_text_file(const std::filesystem::path& path, TextInput input, ThreadPool& pool);

}  // namespace tutti
