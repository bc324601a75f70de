#pragma once

#include <tutti/core/io/file.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace tutti {

/// Storage type of ids, little-endian.
enum class IdType : uint8_t { kAuto, kUint8, kUint16, kInt16, kUint32, kInt32, kUint64, kInt64 };

/// "auto", "uint16", "int32", ...; throws Error on another name.
IdType id_type_from_name(std::string_view name);

/// A file of token ids that another program wrote:
/// - a NumPy file (.npy) of an integer array; more than one dim row by row
/// - llm.c's files: a header of 256 int32 (magic 20240520, version 1: uint16; 20240801, version 7: uint32)
/// - raw numbers, as nanoGPT's train.bin
class IdFile {
 public:
  /// `type` applies to raw numbers; kAuto: uint16 for a vocabulary of up to 65536, else uint32, unless the
  /// data contradicts it. Throws Error naming the file if it has none of these formats, is truncated, or
  /// empty.
  static IdFile open(const std::filesystem::path& path, IdType type, int64_t vocabulary);
  /// The same for a file's bytes, which outlive the object; `name` is its name in messages.
  static IdFile parse(std::span<const std::byte> file, const std::string& name, IdType type,
                      int64_t vocabulary);

  [[nodiscard]] int64_t size() const noexcept { return size_; }
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  /// "a NumPy array of uint16", for messages.
  [[nodiscard]] const std::string& format() const noexcept { return format_; }
  /// Ids begin .. begin + out.size(). Throws Error naming the file, the position and the id if an id is not
  /// in 0 .. vocabulary - 1.
  void read(int64_t begin, std::span<int32_t> out) const;

 private:
  void set_numbers(std::span<const std::byte> data, IdType type, std::string_view kind);

  std::string name_, format_;
  std::shared_ptr<const MappedFile> mapping_;
  std::span<const std::byte> data_;
  IdType type_ = IdType::kUint16;
  int64_t size_ = 0;
  int64_t vocabulary_ = 0;
};

}  // namespace tutti
