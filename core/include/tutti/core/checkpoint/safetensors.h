#pragma once

#include <tutti/core/io/file.h>
#include <tutti/core/io/sha256.h>
#include <tutti/core/tensor.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tutti {

/// Limits of the reader; real files are far smaller.
inline constexpr int64_t kMaxSafetensorsHeader = 100'000'000;  // bytes, the format's own limit
inline constexpr int64_t kMaxSafetensorsTensors = 200'000;

/// Bytes of one element of a dtype by its safetensors name ("F32", "BF16", "U16", ...); 0 for an unknown
/// dtype.
int64_t safetensors_element_size(std::string_view dtype);
/// "F32" for fp32 and so on.
std::string_view safetensors_dtype(DType dtype);
/// The inverse; empty for dtypes that Tensor does not support (U16, I8, F8_E4M3, ...).
std::optional<DType> dtype_from_safetensors(std::string_view dtype);

/// A tensor of a safetensors file.
struct SafetensorsEntry {
  std::string name;
  std::string dtype;  ///< safetensors name
  Shape shape;
  int64_t begin = 0;  ///< first byte, from the start of the data section
  int64_t end = 0;    ///< past the last byte

  [[nodiscard]] int64_t bytes() const noexcept { return end - begin; }
};

/// The header of a safetensors file: https://huggingface.co/docs/safetensors.
struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  ///< in the order of their data
  std::map<std::string, std::string> metadata;
  int64_t data_begin = 0;  ///< where the data section starts in the file
};

/// Parses the header from the bytes of a whole file. Throws Error naming `name` and, if known, the tensor
/// unless: the header's length is within the file and at most 100 MB; the header starts with `{` and is UTF-8
/// JSON of exactly the format's structure, without duplicate keys; metadata are strings; the dtype is known,
/// the shape has at most kMaxDims sizes, and its product times the element size is the length of the tensor's
/// span; spans cover the data section without gaps or overlaps; header and data are the whole file.
SafetensorsHeader parse_safetensors(std::span<const std::byte> file, const std::string& name);

/// A safetensors file, mapped: opening reads the header only.
class SafetensorsFile {
 public:
  static SafetensorsFile open(const std::filesystem::path& path);

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  [[nodiscard]] const SafetensorsHeader& header() const noexcept { return header_; }
  [[nodiscard]] const std::vector<SafetensorsEntry>& entries() const noexcept { return header_.entries; }
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept {
    return header_.metadata;
  }
  /// Null if there is no tensor of that name.
  [[nodiscard]] const SafetensorsEntry* find(std::string_view name) const;
  /// Throws Error with the file, the tensor and the closest name if there is no such tensor.
  [[nodiscard]] const SafetensorsEntry& at(std::string_view name) const;
  /// The data of a tensor of any dtype; valid as long as mapping() exists.
  [[nodiscard]] std::span<const std::byte> bytes(const SafetensorsEntry& entry) const;
  /// The owner of the mapped memory.
  [[nodiscard]] const std::shared_ptr<const MappedFile>& mapping() const noexcept { return mapping_; }
  /// A tensor that views the mapped file without a copy; it must not be written to. Data that is not aligned
  /// to its elements is copied. Throws Error if Tensor does not support the dtype.
  [[nodiscard]] Tensor tensor(const SafetensorsEntry& entry) const;
  [[nodiscard]] Tensor tensor(std::string_view name) const { return tensor(at(name)); }

 private:
  std::filesystem::path path_;
  std::shared_ptr<const MappedFile> mapping_;
  SafetensorsHeader header_;
  std::map<std::string, size_t, std::less<>> index_;
};

/// Writes a safetensors file incrementally; the sizes of the tensors are known in advance. The data section
/// starts at a multiple of 64 bytes. Tensors are ordered by element size, largest first, so that each is
/// aligned; data must be written in the order of order().
class SafetensorsWriter {
 public:
  struct Spec {
    std::string name;
    std::string dtype;  ///< safetensors name
    Shape shape;
  };
  /// Creates the file and writes the header. Throws Error on an unknown dtype, a name that is duplicate or
  /// not valid UTF-8, or if the file cannot be written.
  SafetensorsWriter(std::filesystem::path path, std::vector<Spec> specs,
                    const std::map<std::string, std::string>& metadata = {})
      : SafetensorsWriter(OutputFile(std::move(path)), std::move(specs), metadata) {}
  /// The same for an open, empty file or standard output.
  SafetensorsWriter(OutputFile file, std::vector<Spec> specs,
                    const std::map<std::string, std::string>& metadata = {});

  /// The tensors in the order of their data.
  [[nodiscard]] std::span<const SafetensorsEntry> order() const noexcept { return header_.entries; }
  [[nodiscard]] int64_t data_begin() const noexcept { return header_.data_begin; }
  /// The next bytes of the data section.
  void write(std::span<const std::byte> bytes);
  /// Syncs and closes. Throws Error if data is missing.
  void finish();

  [[nodiscard]] int64_t bytes() const noexcept { return file_.bytes(); }
  /// SHA-256 of the file; after finish().
  [[nodiscard]] const std::string& sha256() const noexcept { return digest_; }

 private:
  OutputFile file_;
  SafetensorsHeader header_;
  int64_t data_bytes_ = 0;
  Sha256 hash_;
  std::string digest_;
};

/// Writes tensors (contiguous) to an open, empty file or standard output, and finishes it.
void write_safetensors(OutputFile file, std::span<const std::pair<std::string, Tensor>> tensors,
                       const std::map<std::string, std::string>& metadata = {});
/// The same, replacing a file with replace_file().
void write_safetensors(const std::filesystem::path& path,
                       std::span<const std::pair<std::string, Tensor>> tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace tutti
