#include <tutti/core/data/idx.h>
#include <tutti/core/error.h>
#include <tutti/core/io/file.h>

#include <zlib.h>

#include <algorithm>
#include <array>

namespace tutti {
namespace {

constexpr uint8_t kUnsignedByte = 0x08;
constexpr size_t kGrowth = size_t{4} << 20;

/// The bytes of a file in order, decompressed if it is gzipped.
class ByteReader {
 public:
  ByteReader(std::span<const std::byte> file, const std::string& name) : file_(file), name_(name) {
    gzipped_ = file.size() >= 2 && file[0] == std::byte{0x1f} && file[1] == std::byte{0x8b};
    if (!gzipped_) return;
    constexpr int kGzip = 16 + MAX_WBITS;
    require(inflateInit2(&zip_, kGzip) == Z_OK, "{}: zlib: {}", name_, message());
  }
  ~ByteReader() {
    if (gzipped_) inflateEnd(&zip_);
  }
  ByteReader(const ByteReader&) = delete;
  ByteReader& operator=(const ByteReader&) = delete;

  /// Fills `out` as far as there are bytes; returns how many.
  size_t read(std::span<uint8_t> out) {
    if (!gzipped_) {
      const size_t n = std::min(out.size(), file_.size() - at_);
      for (size_t i = 0; i < n; ++i) out[i] = static_cast<uint8_t>(file_[at_ + i]);
      at_ += n;
      return n;
    }
    size_t done = 0;
    while (done < out.size() && !ended_) {
      if (zip_.avail_in == 0) {  // zlib counts in 32 bits
        const size_t n = std::min(file_.size() - at_, size_t{1} << 30);
        zip_.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(file_.data() + at_));
        zip_.avail_in = static_cast<uInt>(n);
        at_ += n;
      }
      const size_t room = std::min(out.size() - done, size_t{1} << 30);
      zip_.next_out = out.data() + done;
      zip_.avail_out = static_cast<uInt>(room);
      const int rc = inflate(&zip_, Z_NO_FLUSH);
      done += room - zip_.avail_out;
      ended_ = rc == Z_STREAM_END;
      require(rc == Z_OK || ended_, "{}: damaged or truncated gzip data: {}", name_, message());
    }
    return done;
  }

  /// Whether the end is reached; for gzip also whether the checksum matches.
  bool at_end() {
    uint8_t one = 0;
    if (read({&one, 1}) != 0) return false;
    return !gzipped_ || (ended_ && zip_.avail_in == 0 && at_ == file_.size());
  }

 private:
  [[nodiscard]] std::string message() const {
    return zip_.msg != nullptr ? zip_.msg : "unexpected end of data";
  }

  std::span<const std::byte> file_;
  const std::string& name_;
  bool gzipped_ = false;
  bool ended_ = false;
  size_t at_ = 0;
  z_stream zip_{};
};

}  // namespace

IdxArray parse_idx(std::span<const std::byte> file, int dims, const std::string& name) {
  require(!file.empty(), "{}: the file is empty", name);
  ByteReader reader(file, name);
  std::array<uint8_t, 4> magic{};
  require(reader.read(magic) == magic.size() && magic[0] == 0 && magic[1] == 0, "{}: not an IDX file", name);
  require(magic[2] == kUnsignedByte, "{}: IDX elements of type 0x{:02x}; expected 0x08, unsigned bytes", name,
          magic[2]);
  require(magic[3] == dims, "{}: IDX data of {} dims; expected {}", name, magic[3], dims);
  IdxArray array;
  int64_t values = 1;
  for (int d = 0; d < dims; ++d) {
    std::array<uint8_t, 4> size{};
    require(reader.read(size) == size.size(), "{}: truncated in the header", name);
    array.shape.push_back(static_cast<int64_t>(size[0]) << 24 | size[1] << 16 | size[2] << 8 | size[3]);
    require(!__builtin_mul_overflow(values, array.shape.back(), &values), "{}: invalid sizes {}", name,
            to_string(array.shape));
  }
  const auto total = static_cast<size_t>(values);
  while (array.values.size() < total) {
    const size_t before = array.values.size();
    array.values.resize(before + std::min(std::max(kGrowth, before / 2), total - before));
    const size_t got = reader.read(std::span(array.values).subspan(before));
    require(before + got == array.values.size(), "{}: truncated: {} bytes of values; shape {} needs {}", name,
            before + got, to_string(array.shape), total);
  }
  require(reader.at_end(), "{}: more data than shape {} needs, or a damaged end", name,
          to_string(array.shape));
  return array;
}

IdxImages::IdxImages(const std::filesystem::path& images, const std::filesystem::path& labels)
    : paths_{images, labels},
      images_(parse_idx(MappedFile::open(images)->bytes(), 3, images.string())),
      labels_(parse_idx(MappedFile::open(labels)->bytes(), 1, labels.string())) {
  require(!images_.values.empty(), "{}: no images: shape {}", images.string(), to_string(images_.shape));
  require(images_.shape[0] == labels_.shape[0], "{}: {} images, but {} contains {} labels", images.string(),
          images_.shape[0], labels.string(), labels_.shape[0]);
  classes_ = 1 + *std::max_element(labels_.values.begin(), labels_.values.end());
}

std::unique_ptr<IdxImages> IdxImages::from_directory(const std::filesystem::path& directory,
                                                     const std::string& prefix) {
  require(std::filesystem::is_directory(directory), "{}: no such directory", directory.string());
  const auto find = [&](const std::string& rest) {
    const std::filesystem::path plain = directory / (prefix + rest);
    const std::filesystem::path zipped = plain.string() + ".gz";
    require(std::filesystem::exists(plain) || std::filesystem::exists(zipped),
            "{}: no such file, with or without .gz", plain.string());
    return std::filesystem::exists(plain) ? plain : zipped;
  };
  return std::make_unique<IdxImages>(find("-images-idx3-ubyte"), find("-labels-idx1-ubyte"));
}

int32_t IdxImages::label(int64_t id) const {
  return labels_.values[static_cast<size_t>(id)];
}

void IdxImages::load(int64_t id, std::span<uint8_t> pixels, const RandomKey*) const {
  std::copy_n(images_.values.begin() + id * static_cast<int64_t>(pixels.size()), pixels.size(),
              pixels.begin());
}

}  // namespace tutti
