#include "core/data/prepare/npy_header.h"
#include <tutti/core/error.h>

#include <algorithm>
#include <charconv>
#include <string_view>

namespace tutti {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kMaxHeader = size_t{1} << 16;
constexpr size_t kMaxNpyDims = 32;

/// Reads the Python literal that a header is.
class Literal {
 public:
  Literal(std::string_view text, const std::string& name) : text_(text), name_(name) {}

  NpyHeader read() {
    NpyHeader header;
    bool has_descr = false, has_order = false, has_shape = false;
    expect('{');
    while (!take('}')) {
      const std::string key = string();
      expect(':');
      if (key == "descr" && !has_descr) {
        header.descr = string();
        has_descr = true;
      } else if (key == "fortran_order" && !has_order) {
        header.fortran_order = boolean();
        has_order = true;
      } else if (key == "shape" && !has_shape) {
        header.shape = shape();
        has_shape = true;
      } else {
        fail("{}: '{}' in the header of a NumPy file", name_, key.substr(0, 40));
      }
      if (!take(',')) {
        expect('}');
        break;
      }
    }
    skip_spaces();
    require(at_ == text_.size() && has_descr && has_order && has_shape,
            "{}: truncated header of a NumPy file", name_);
    return header;
  }

 private:
  void skip_spaces() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }
  bool take(char c) {
    skip_spaces();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    require(take(c), "{}: expected '{}' at byte {} of the header of a NumPy file", name_, c, at_);
  }
  std::string string() {
    const char quote = take('"') ? '"' : '\'';
    if (quote == '\'') expect('\'');
    const size_t end = text_.find(quote, at_);
    require(end != std::string_view::npos, "{}: unterminated string in the header of a NumPy file", name_);
    const std::string value(text_.substr(at_, end - at_));
    at_ = end + 1;
    return value;
  }
  bool boolean() {
    skip_spaces();
    for (const std::string_view word : {"True", "False"}) {
      if (!text_.substr(at_).starts_with(word)) continue;
      at_ += word.size();
      return word == "True";
    }
    fail("{}: expected True or False in the header of a NumPy file", name_);
  }
  std::vector<int64_t> shape() {
    std::vector<int64_t> sizes;
    expect('(');
    while (!take(')')) {
      skip_spaces();
      int64_t size = -1;
      const char* begin = text_.data() + at_;
      const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), size);
      require(error == std::errc{} && size >= 0 && sizes.size() < kMaxNpyDims,
              "{}: expected a size at byte {} of the header of a NumPy file", name_, at_);
      at_ += static_cast<size_t>(end - begin);
      sizes.push_back(size);
      if (!take(',')) {
        expect(')');
        break;
      }
    }
    return sizes;
  }

  std::string_view text_;
  const std::string& name_;
  size_t at_ = 0;
};

}  // namespace

bool is_npy(std::span<const std::byte> file) {
  return file.size() >= kMagic.size() &&
         std::equal(kMagic.begin(), kMagic.end(), file.begin(),
                    [](char a, std::byte b) { return static_cast<std::byte>(a) == b; });
}

NpyHeader parse_npy_header(std::span<const std::byte> file, const std::string& name) {
  require(is_npy(file) && file.size() >= 12, "{}: not a NumPy file, or truncated", name);
  const auto byte = [&](size_t i) { return static_cast<size_t>(file[i]); };
  const size_t version = byte(6);
  require(version >= 1 && version <= 3, "{}: version {} of NumPy's format; expected 1 to 3", name, version);
  const size_t begin = version == 1 ? 10 : 12;
  const size_t length =
      version == 1 ? byte(8) | byte(9) << 8 : byte(8) | byte(9) << 8 | byte(10) << 16 | byte(11) << 24;
  require(length <= kMaxHeader && length <= file.size() - begin,
          "{}: a header of {} bytes; the file has {}, and at most {} are supported", name, length,
          file.size(), kMaxHeader);
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + begin, length);
  NpyHeader header = Literal(text, name).read();
  header.data_begin = begin + length;
  return header;
}

}  // namespace tutti
