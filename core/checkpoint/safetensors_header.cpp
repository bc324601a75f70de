#include <tutti/core/checkpoint/safetensors.h>
#include <tutti/core/error.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <limits>
#include <unordered_set>

namespace tutti {
namespace {

using Json = nlohmann::json;

/// A tensor's or key's name for messages; names in hostile files may be of any length.
std::string shown(std::string_view text) {
  constexpr size_t kMost = 100;
  return text.size() <= kMost ? std::string(text) : fmt::format("{}...", text.substr(0, kMost));
}

/// Reads the header as a stream of JSON events and builds only the result, so that a hostile header uses no
/// more memory than its own size and nesting is not followed.
class HeaderReader final : public nlohmann::json_sax<Json> {
 public:
  HeaderReader(const std::string& file, SafetensorsHeader& header) : file_(file), header_(header) {}

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("a boolean"); }
  bool number_float(double, const std::string& text) override { return unexpected(text); }
  bool binary(Json::binary_t&) override { return unexpected("binary data"); }
  bool number_integer(int64_t value) override { return unexpected(std::to_string(value)); }

  bool number_unsigned(uint64_t value) override {
    if (state_ != State::kShape && state_ != State::kOffsets) return unexpected(std::to_string(value));
    check(value <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()), "a size that is too large");
    const auto size = static_cast<int64_t>(value);
    if (state_ == State::kShape) {
      check(entry_.shape.size() < entry_.shape.capacity(), fmt::format("more than {} dims", kMaxDims));
      entry_.shape.push_back(size);
    } else {
      check(offsets_ < 2, "more than two data_offsets");
      (offsets_ == 0 ? entry_.begin : entry_.end) = size;
      ++offsets_;
    }
    return true;
  }

  bool string(std::string& text) override {
    if (state_ == State::kMetadata) {
      header_.metadata[key_] = text;
      return true;
    }
    if (state_ == State::kEntry && key_ == "dtype") {
      check(safetensors_element_size(text) > 0, fmt::format("an unknown dtype '{}'", shown(text)));
      entry_.dtype = text;
      return true;
    }
    return unexpected(fmt::format("the string '{}'", shown(text)));
  }

  bool key(std::string& text) override {
    switch (state_) {
      case State::kTop:
        check(names_.insert(text).second, fmt::format("a duplicate name '{}'", shown(text)));
        entry_ = {};
        entry_.name = text;
        return true;
      case State::kMetadata:
        check(metadata_names_.insert(text).second, fmt::format("a duplicate metadata key '{}'", shown(text)));
        key_ = text;
        return true;
      case State::kEntry: {
        const unsigned bit = text == "dtype" ? 1 : text == "shape" ? 2 : text == "data_offsets" ? 4 : 0;
        check(bit != 0, fmt::format("an unknown key '{}'", shown(text)));
        check((keys_seen_ & bit) == 0, fmt::format("a duplicate key '{}'", text));
        keys_seen_ |= bit;
        key_ = text;
        return true;
      }
      default:
        return unexpected("a key");
    }
  }

  bool start_object(std::size_t) override {
    if (state_ == State::kStart) {
      state_ = State::kTop;
    } else if (state_ == State::kTop && entry_.name == "__metadata__") {
      state_ = State::kMetadata;
    } else if (state_ == State::kTop) {
      check(static_cast<int64_t>(header_.entries.size()) < kMaxSafetensorsTensors,
            fmt::format("more than {} tensors", kMaxSafetensorsTensors));
      state_ = State::kEntry;
      keys_seen_ = 0;
      key_.clear();
      offsets_ = 0;
    } else {
      return unexpected("an object");
    }
    return true;
  }

  bool end_object() override {
    if (state_ == State::kEntry) {
      check(keys_seen_ == 7, "not all of dtype, shape and data_offsets");
      check(offsets_ == 2, "fewer than two data_offsets");
      header_.entries.push_back(entry_);
    }
    state_ = state_ == State::kTop ? State::kEnd : State::kTop;
    return true;
  }

  bool start_array(std::size_t) override {
    if (state_ == State::kEntry && key_ == "shape") {
      state_ = State::kShape;
    } else if (state_ == State::kEntry && key_ == "data_offsets") {
      state_ = State::kOffsets;
    } else {
      return unexpected("an array");
    }
    return true;
  }

  bool end_array() override {
    state_ = State::kEntry;
    key_.clear();
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    fail("{}: the safetensors header is not valid JSON at byte {}", file_, 8 + position);
  }

 private:
  enum class State : uint8_t { kStart, kTop, kMetadata, kEntry, kShape, kOffsets, kEnd };

  void check(bool ok, std::string_view found) const {
    if (ok) return;
    const bool inside = state_ != State::kTop && state_ != State::kMetadata && state_ != State::kStart;
    fail("{}: the safetensors header has {}{}", file_, found,
         inside ? fmt::format(" for tensor '{}'", shown(entry_.name)) : "");
  }
  bool unexpected(std::string_view found) const {
    check(false, fmt::format("{} in the wrong position", found));
    return false;
  }

  const std::string& file_;
  SafetensorsHeader& header_;
  State state_ = State::kStart;
  SafetensorsEntry entry_;
  std::string key_;
  unsigned keys_seen_ = 0;
  int offsets_ = 0;
  std::unordered_set<std::string> names_, metadata_names_;
};

/// Size in bytes of shape and dtype; -1 if it does not fit into 63 bits.
int64_t span_of(const SafetensorsEntry& entry) {
  int64_t bytes = safetensors_element_size(entry.dtype);
  bool zero = false;
  for (const int64_t size : entry.shape) {
    zero = zero || size == 0;
    if (size != 0 && __builtin_mul_overflow(bytes, size, &bytes)) return -1;
  }
  return zero ? 0 : bytes;
}

void check_spans(SafetensorsHeader& header, int64_t data_bytes, const std::string& file) {
  for (const SafetensorsEntry& entry : header.entries) {
    const int64_t expected = span_of(entry);
    require(entry.begin <= entry.end && expected >= 0 && entry.end - entry.begin == expected,
            "{}: tensor '{}' of dtype {} and shape {} spans bytes {} to {}", file, shown(entry.name),
            entry.dtype, to_string(entry.shape), entry.begin, entry.end);
  }
  std::stable_sort(header.entries.begin(), header.entries.end(), [](const auto& a, const auto& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  int64_t covered = 0;
  for (const SafetensorsEntry& entry : header.entries) {
    require(entry.begin == covered, "{}: tensor '{}' begins at data byte {}, the one before it ends at {}",
            file, shown(entry.name), entry.begin, covered);
    covered = entry.end;
  }
  require(covered == data_bytes,
          "{}: the tensors need {} bytes, the file has {} bytes of data (is it truncated?)", file, covered,
          data_bytes);
}

}  // namespace

SafetensorsHeader parse_safetensors(std::span<const std::byte> file, const std::string& name) {
  const auto size = static_cast<int64_t>(file.size());
  require(size >= 10, "{}: not a safetensors file: only {} bytes long", name, size);
  uint64_t length = 0;
  for (size_t i = 0; i < 8; ++i) length |= static_cast<uint64_t>(file[i]) << (8 * i);
  require(length <= static_cast<uint64_t>(kMaxSafetensorsHeader) && static_cast<int64_t>(length) <= size - 8,
          "{}: not a safetensors file, or truncated: a header of {} bytes in a file of {}", name, length,
          size);
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + 8, length);
  require(text.starts_with('{'), "{}: not a safetensors file: its header does not start with '{{'", name);
  // The JSON parser treats a zero byte as the end of its input.
  require(text.find('\0') == std::string_view::npos, "{}: the safetensors header contains a zero byte", name);

  SafetensorsHeader header;
  header.data_begin = 8 + static_cast<int64_t>(length);
  HeaderReader reader(name, header);
  require(Json::sax_parse(text.begin(), text.end(), &reader), "{}: the safetensors header is not valid",
          name);
  check_spans(header, size - header.data_begin, name);
  return header;
}

}  // namespace tutti
