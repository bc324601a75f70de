#include "core/data/prepare/text_file.h"
#include <tutti/core/error.h>
#include "core/counted.h"
#include "core/data/unicode.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>

namespace tutti {
namespace {

using namespace std::string_view_literals;

constexpr int64_t kBytesPerTask = int64_t{1} << 20;
constexpr std::string_view kUtf8Mark = "\xef\xbb\xbf";
constexpr std::string_view kAsBytes = "use --as-bytes to read the bytes unchanged";

struct Magic {
  size_t offset;
  std::string_view bytes;
  std::string_view what;
};

constexpr std::array kMagics{
    Magic{0, "\x1f\x8b"sv, "a gzip file: unpack it first (gunzip)"},
    Magic{0, "\x28\xb5\x2f\xfd"sv, "a zstd file: unpack it first (unzstd)"},
    Magic{0,
          "\xfd"
          "7zXZ\0"sv,
          "an xz file: unpack it first (unxz)"},
    Magic{0, "BZh"sv, "a bzip2 file: unpack it first (bunzip2)"},
    Magic{0, "\x04\x22\x4d\x18"sv, "an lz4 file: unpack it first (unlz4)"},
    Magic{0, "PK\x03\x04"sv, "a zip archive (or .npz, a document of an office program, or a PyTorch file)"},
    Magic{0, "7z\xbc\xaf\x27\x1c"sv, "a 7-Zip archive"},
    Magic{257, "ustar"sv, "a tar archive: unpack it first (tar -x)"},
    Magic{0, "%PDF-"sv, "a PDF file: convert it first (pdftotext)"},
    Magic{0,
          "\x7f"
          "ELF"sv,
          "a program"},
    Magic{0, "PAR1"sv, "a Parquet file: write its text column to a plain file first"},
    Magic{0, "ARROW1"sv, "an Arrow file: write its text column to a plain file first"},
    Magic{0, "\x89HDF"sv, "an HDF5 file"},
    Magic{0, "SQLite format 3\0"sv, "an SQLite database"},
    Magic{0, "\x93NUMPY"sv, "a NumPy array: for arrays of token ids, --ids"},
    Magic{0, "\x89PNG"sv, "a PNG image"},
    Magic{0, "\xff\xd8\xff"sv, "a JPEG image"},
    Magic{0, "GIF8"sv, "a GIF image"},
    Magic{0, "\xff\xfe\0\0"sv, "UTF-32 text: convert it first (iconv -f UTF-32 -t UTF-8)"},
    Magic{0, "\0\0\xfe\xff"sv, "UTF-32 text: convert it first (iconv -f UTF-32 -t UTF-8)"},
    Magic{0, "\xff\xfe"sv, "UTF-16 text: convert it first (iconv -f UTF-16 -t UTF-8)"},
    Magic{0, "\xfe\xff"sv, "UTF-16 text: convert it first (iconv -f UTF-16 -t UTF-8)"},
};

bool continues(char byte) {
  return (static_cast<unsigned char>(byte) & 0xc0U) == 0x80U;
}

/// Errors in [begin, end); characters that begin there may end after it.
TextFaults faults_within(std::string_view bytes, size_t begin, size_t end) {
  TextFaults faults;
  const auto found = [&](int64_t& count, size_t at) {
    ++count;
    if (faults.first_fault < 0) faults.first_fault = static_cast<int64_t>(at);
  };
  for (size_t i = begin; i < end;) {
    if (i + 8 <= end) {  // eight ASCII bytes at once: no high bit, and none is zero
      uint64_t word = 0;
      std::memcpy(&word, bytes.data() + i, sizeof word);
      constexpr uint64_t kHigh = 0x8080808080808080ULL;
      if ((word & kHigh) == 0 && (((word - 0x0101010101010101ULL) & ~word) & kHigh) == 0) {
        i += 8;
        continue;
      }
    }
    const Utf8Char c = decode_utf8(bytes, i);
    if (c.code == Utf8Char::kInvalid) {
      found(faults.invalid, i);
    } else if (c.code == 0) {
      found(faults.zeros, i);
    }
    i += c.bytes;
  }
  return faults;
}

/// Where a part that begins near `at` begins: after the character that a cut at `at` would split, if there
/// is one.
size_t part_begin(std::string_view bytes, size_t at) {
  if (at == 0 || at >= bytes.size()) return std::min(at, bytes.size());
  for (size_t back = 1; back <= 3 && back <= at; ++back) {
    if (continues(bytes[at - back])) continue;
    const size_t end = at - back + decode_utf8(bytes, at - back).bytes;
    return std::max(at, end);
  }
  return at;
}

std::string where(std::string_view bytes, int64_t fault) {
  const std::string_view before = bytes.substr(0, static_cast<size_t>(fault));
  return fmt::format("byte {} (line {})", fault, 1 + std::count(before.begin(), before.end(), '\n'));
}

}  // namespace

TextFaults find_text_faults(std::string_view bytes, ThreadPool& pool) {
  TextFaults all;
  std::mutex mutex;
  pool.parallel_ranges(static_cast<int64_t>(bytes.size()), kBytesPerTask, [&](int64_t begin, int64_t end) {
    const TextFaults faults = faults_within(bytes, part_begin(bytes, static_cast<size_t>(begin)),
                                            part_begin(bytes, static_cast<size_t>(end)));
    const std::scoped_lock lock(mutex);
    all.zeros += faults.zeros;
    all.invalid += faults.invalid;
    if (faults.first_fault >= 0 && (all.first_fault < 0 || faults.first_fault < all.first_fault)) {
      all.first_fault = faults.first_fault;
    }
  });
  return all;
}

std::string_view binary_format(std::string_view bytes) {
  for (const Magic& magic : kMagics) {
    if (bytes.size() >= magic.offset && bytes.substr(magic.offset).starts_with(magic.bytes))
      return magic.what;
  }
  return {};
}

TextFile open_text_file(const std::filesystem::path& path, TextInput input, ThreadPool& pool) {
  TextFile file{MappedFile::open(path), {}};
  const std::span<const std::byte> bytes = file.file->bytes();
  const std::string name = path.string();
  require(!bytes.empty(), "{}: the file is empty", name);
  file.text = {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  if (input == TextInput::kBytes) return file;

  const TextFaults faults = find_text_faults(file.text, pool);
  if (faults.first_fault >= 0) {
    // The beginning of a text may look like a binary format; valid text is accepted.
    const std::string_view format = binary_format(file.text);
    require(format.empty(), "{}: not text but {}; {}", name, format, kAsBytes);
    if (faults.zeros > 0) {
      const bool wide = 3 * faults.zeros >= static_cast<int64_t>(file.text.size());
      fail("{}: not text: {}, the first at {}{}; {}", name, counted(faults.zeros, "zero byte"),
           where(file.text, faults.first_fault),
           wide ? "; UTF-16? convert it first (iconv -f UTF-16LE -t UTF-8)" : "", kAsBytes);
    }
    fail(
        "{}: not valid UTF-8: {}, the first at {}; convert it from its encoding (iconv -f LATIN1 -t UTF-8), "
        "or {}",
        name, counted(faults.invalid, "invalid byte"), where(file.text, faults.first_fault), kAsBytes);
  }
  file.had_mark = file.text.starts_with(kUtf8Mark);
  if (file.had_mark) file.text.remove_prefix(kUtf8Mark.size());
  require(!file.text.empty(), "{}: the file is empty except for a byte-order mark", name);
  return file;
}

}  // namespace tutti
