#include "core/data/prepare/id_file.h"
#include <tutti/core/error.h>
#include "core/data/prepare/npy_header.h"
#include "core/data/prepare/text_file.h"

#include <array>
#include <cstring>
#include <optional>
#include <utility>

namespace tutti {
namespace {

constexpr std::array<std::pair<std::string_view, IdType>, 8> kNames{{{"auto", IdType::kAuto},
                                                                     {"uint8", IdType::kUint8},
                                                                     {"uint16", IdType::kUint16},
                                                                     {"int16", IdType::kInt16},
                                                                     {"uint32", IdType::kUint32},
                                                                     {"int32", IdType::kInt32},
                                                                     {"uint64", IdType::kUint64},
                                                                     {"int64", IdType::kInt64}}};

std::string_view name_of(IdType type) {
  return kNames[static_cast<size_t>(type)].first;
}

size_t bytes_of(IdType type) {
  constexpr std::array<size_t, 8> kBytes{1, 1, 2, 2, 4, 4, 8, 8};
  return kBytes[static_cast<size_t>(type)];
}

/// llm.c's header: 256 int32, of which three are used.
struct LlmcHeader {
  static constexpr size_t kBytes = 1024;
  int32_t magic = 0, version = 0, tokens = 0;

  static std::optional<LlmcHeader> of(std::span<const std::byte> file) {
    LlmcHeader header;
    if (file.size() < kBytes) return std::nullopt;
    std::memcpy(&header, file.data(), sizeof header);
    if (header.magic != 20240520 && header.magic != 20240801) return std::nullopt;
    return header;
  }
  [[nodiscard]] IdType type() const { return magic == 20240520 ? IdType::kUint16 : IdType::kUint32; }
};

IdType npy_type(const std::string& descr, const std::string& name) {
  const std::string_view kind = std::string_view(descr).substr(descr.empty() ? 0 : 1);
  constexpr std::array<std::pair<std::string_view, IdType>, 7> kTypes{{{"u1", IdType::kUint8},
                                                                       {"u2", IdType::kUint16},
                                                                       {"i2", IdType::kInt16},
                                                                       {"u4", IdType::kUint32},
                                                                       {"i4", IdType::kInt32},
                                                                       {"u8", IdType::kUint64},
                                                                       {"i8", IdType::kInt64}}};
  for (const auto& [text, type] : kTypes) {
    if (kind == text && (descr[0] == '<' || (descr[0] == '|' && type == IdType::kUint8))) return type;
  }
  fail("{}: an array of dtype '{}'; expected little-endian integers such as <u2 or <i4", name, descr);
}

/// Whether numbers of 16 bits are halves of ids of 32 bits: each second one is zero.
bool looks_like_32_bits(std::span<const std::byte> data) {
  constexpr size_t kLooked = size_t{1} << 16;
  if (data.size() % 4 != 0 || data.size() < 16) return false;
  for (size_t i = 2; i + 1 < std::min(data.size(), kLooked); i += 4) {
    if (data[i] != std::byte{0} || data[i + 1] != std::byte{0}) return false;
  }
  return true;
}

template <class Stored>
int64_t widen(const std::byte* from, std::span<int32_t> out, int64_t vocabulary) {
  for (size_t i = 0; i < out.size(); ++i) {
    Stored value;
    std::memcpy(&value, from + i * sizeof(Stored), sizeof value);
    if (std::cmp_less(value, 0) || std::cmp_greater_equal(value, vocabulary)) return static_cast<int64_t>(i);
    out[i] = static_cast<int32_t>(value);
  }
  return -1;
}

/// Calls `use` with a value of the type that is stored.
template <class Use>
auto with_type(IdType type, Use&& use) {
  switch (type) {
    case IdType::kUint8:
      return use(uint8_t{});
    case IdType::kInt16:
      return use(int16_t{});
    case IdType::kUint32:
      return use(uint32_t{});
    case IdType::kInt32:
      return use(int32_t{});
    case IdType::kUint64:
      return use(uint64_t{});
    case IdType::kInt64:
      return use(int64_t{});
    default:
      return use(uint16_t{});
  }
}

}  // namespace

IdType id_type_from_name(std::string_view name) {
  for (const auto& [text, type] : kNames) {
    if (text == name) return type;
  }
  fail("type of ids '{}'; expected auto, uint8, uint16, int16, uint32, int32, uint64 or int64", name);
}

IdFile IdFile::open(const std::filesystem::path& path, IdType type, int64_t vocabulary) {
  std::shared_ptr<const MappedFile> mapping = MappedFile::open(path);
  IdFile file = parse(mapping->bytes(), path.string(), type, vocabulary);
  file.mapping_ = std::move(mapping);
  return file;
}

IdFile IdFile::parse(std::span<const std::byte> bytes, const std::string& name, IdType type,
                     int64_t vocabulary) {
  require(!bytes.empty(), "{}: the file is empty", name);
  IdFile file;
  file.name_ = name;
  file.vocabulary_ = vocabulary;
  if (is_npy(bytes)) {
    const NpyHeader header = parse_npy_header(bytes, name);
    const IdType stored = npy_type(header.descr, name);
    int64_t values = 1;
    for (const int64_t size : header.shape) {
      require(!__builtin_mul_overflow(values, size, &values), "{}: invalid sizes", name);
    }
    require(!header.fortran_order || header.shape.size() <= 1,
            "{}: an array in Fortran order; expected C order", name);
    const auto data = bytes.subspan(header.data_begin);
    require(static_cast<uint64_t>(values) <= data.size() / bytes_of(stored) &&
                data.size() == static_cast<uint64_t>(values) * bytes_of(stored),
            "{}: {} bytes of data; the header declares {} numbers of {} bytes", name, data.size(), values,
            bytes_of(stored));
    file.set_numbers(data, stored, "a NumPy array");
  } else if (const auto header = LlmcHeader::of(bytes)) {
    const auto data = bytes.subspan(LlmcHeader::kBytes);
    const int32_t version = header->type() == IdType::kUint16 ? 1 : 7;
    require(header->version == version, "{}: version {} of llm.c's format; expected {}", name,
            header->version, version);
    require(
        header->tokens >= 0 && data.size() == static_cast<size_t>(header->tokens) * bytes_of(header->type()),
        "{}: {} bytes of ids; the header declares {} of {} bytes", name, data.size(), header->tokens,
        bytes_of(header->type()));
    file.set_numbers(data, header->type(), "llm.c's format");
  } else {
    if (type == IdType::kAuto) {
      const std::string_view format =
          binary_format({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
      require(format.empty(), "{}: not ids but {}; if the file contains raw numbers, set --ids-type", name,
              format);
      type = vocabulary <= 65536 ? IdType::kUint16 : IdType::kUint32;
      require(type != IdType::kUint16 || !looks_like_32_bits(bytes),
              "{}: every second 16-bit number is zero, as in 32-bit ids: set --ids-type int32 (or uint16)",
              name);
    }
    file.set_numbers(bytes, type, "raw numbers");
  }
  require(file.size_ > 0, "{}: contains no ids", name);
  return file;
}

void IdFile::set_numbers(std::span<const std::byte> data, IdType type, std::string_view kind) {
  require(data.size() % bytes_of(type) == 0,
          "{}: {} bytes are not a multiple of the size of {}; set another --ids-type", name_, data.size(),
          name_of(type));
  data_ = data;
  type_ = type;
  size_ = static_cast<int64_t>(data.size() / bytes_of(type));
  format_ = fmt::format("{} of {}", kind, name_of(type));
}

void IdFile::read(int64_t begin, std::span<int32_t> out) const {
  const auto count = static_cast<int64_t>(out.size());
  require(begin >= 0 && begin <= size_ && count <= size_ - begin, "{}: ids {} to {} requested; it has {}",
          name_, begin, begin + count, size_);
  const std::byte* from = data_.data() + static_cast<size_t>(begin) * bytes_of(type_);
  with_type(type_, [&]<class Stored>(Stored) {
    const int64_t bad = widen<Stored>(from, out, vocabulary_);
    if (bad < 0) return;
    Stored value;
    std::memcpy(&value, from + static_cast<size_t>(bad) * sizeof value, sizeof value);
    fail("{}: id {} at position {} of {}; --vocabulary {} allows 0 to {}", name_, value, begin + bad, format_,
         vocabulary_, vocabulary_ - 1);
  });
}

}  // namespace tutti
