#include "core/data/image/exif.h"

#include <algorithm>
#include <cstdint>
#include <string_view>

namespace tutti {
namespace {

using Bytes = std::span<const std::byte>;

constexpr size_t kIfdEntry = 12;
constexpr uint64_t kOrientationTag = 0x0112;

/// Reads unsigned numbers of a byte order; 0 after the end.
struct Numbers {
  Bytes data;
  bool big_endian = true;

  [[nodiscard]] uint64_t at(size_t offset, size_t bytes) const {
    if (offset > data.size() || bytes > data.size() - offset) return 0;
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; ++i) {
      const size_t from = big_endian ? i : bytes - 1 - i;
      value = value << 8 | static_cast<uint64_t>(data[offset + from]);
    }
    return value;
  }
};

bool has_text(Bytes data, size_t offset, std::string_view text) {
  return offset <= data.size() && text.size() <= data.size() - offset &&
         std::equal(text.begin(), text.end(), data.begin() + static_cast<std::ptrdiff_t>(offset),
                    [](char a, std::byte b) { return static_cast<std::byte>(a) == b; });
}

/// The part of this length, truncated to the data.
Bytes part(Bytes data, size_t offset, uint64_t size) {
  if (offset >= data.size()) return {};
  return data.subspan(offset, std::min<uint64_t>(size, data.size() - offset));
}

Bytes exif_of_jpeg(Bytes file) {
  constexpr std::string_view kMark("Exif\0\0", 6);
  const Numbers numbers{file};
  for (size_t at = 2; at + 4 <= file.size();) {
    const uint64_t marker = numbers.at(at, 2);
    if (marker == 0xffff) {  // fill bytes
      ++at;
      continue;
    }
    if (marker < 0xffc0 || marker == 0xffda || marker == 0xffd9)
      break;  // image data begins, or the file is damaged
    const uint64_t length = numbers.at(at + 2, 2);
    if (length < 2) break;
    if (marker == 0xffe1 && has_text(file, at + 4, kMark)) {
      return part(file, at + 4 + kMark.size(), length - 2 - std::min<uint64_t>(length - 2, kMark.size()));
    }
    at += 2 + length;
  }
  return {};
}

Bytes exif_of_png(Bytes file) {
  const Numbers numbers{file};
  for (size_t at = 8; at + 12 <= file.size();) {
    const uint64_t length = numbers.at(at, 4);
    if (has_text(file, at + 4, "eXIf")) return part(file, at + 8, length);
    at += 12 + length;
  }
  return {};
}

Bytes exif_of_webp(Bytes file) {
  const Numbers numbers{file, false};
  for (size_t at = 12; at + 8 <= file.size();) {
    const uint64_t length = numbers.at(at + 4, 4);
    if (has_text(file, at, "EXIF")) {
      const Bytes exif = part(file, at + 8, length);
      constexpr std::string_view kMark("Exif\0\0", 6);  // some writers keep JPEG's mark
      return has_text(exif, 0, kMark) ? exif.subspan(kMark.size()) : exif;
    }
    at += 8 + length + (length & 1);  // chunks are padded to even sizes
  }
  return {};
}

}  // namespace

Bytes find_exif(Bytes file) {
  if (has_text(file, 0, "\xff\xd8")) return exif_of_jpeg(file);
  if (has_text(file, 0, "\x89PNG")) return exif_of_png(file);
  if (has_text(file, 0, "RIFF") && has_text(file, 8, "WEBP")) return exif_of_webp(file);
  return {};
}

int exif_orientation(Bytes exif) {
  const bool little = has_text(exif, 0, "II");
  if (!little && !has_text(exif, 0, "MM")) return 1;
  const Numbers numbers{exif, !little};
  if (numbers.at(2, 2) != 42) return 1;
  const uint64_t directory = numbers.at(4, 4);
  const uint64_t entries = numbers.at(directory, 2);
  for (uint64_t i = 0; i < entries; ++i) {
    const size_t entry = directory + 2 + i * kIfdEntry;
    if (entry + kIfdEntry > exif.size()) break;
    if (numbers.at(entry, 2) != kOrientationTag) continue;
    const uint64_t type = numbers.at(entry + 2, 2);  // 1: BYTE, 3: SHORT, 4: LONG
    const size_t bytes = type == 1 ? 1 : type == 3 ? 2 : type == 4 ? 4 : 0;
    const uint64_t value = bytes > 0 ? numbers.at(entry + 8, bytes) : 0;
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

}  // namespace tutti
