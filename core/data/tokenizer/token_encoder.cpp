#include "core/config/utf8.h"
#include "core/data/tokenizer/pipeline.h"
#include "core/data/unicode.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace tutti {
namespace {

constexpr size_t kShortWord = 31;  // bytes: with its length a word is half a cache line
constexpr size_t kCachedIds = 8;
constexpr size_t kMostSlots = size_t{1} << 15;
constexpr size_t kFewestSlots = 64;
constexpr size_t kProbes = 4;

/// A word of at most kShortWord bytes, zero-padded, its length in the last byte.
struct WordKey {
  std::array<uint64_t, 4> words{};

  friend bool operator==(const WordKey& a, const WordKey& b) {
    return ((a.words[0] ^ b.words[0]) | (a.words[1] ^ b.words[1]) | (a.words[2] ^ b.words[2]) |
            (a.words[3] ^ b.words[3])) == 0;
  }
  [[nodiscard]] size_t hash() const {
    uint64_t h = words[0] * 0x9E3779B97F4A7C15ULL;
    h = (h ^ (h >> 32) ^ words[1]) * 0xBF58476D1CE4E5B9ULL;
    h = (h ^ (h >> 32) ^ words[2]) * 0x94D049BB133111EBULL;
    h = (h ^ (h >> 32) ^ words[3]) * 0x9E3779B97F4A7C15ULL;
    return h >> 40;
  }
};

struct alignas(64) CacheEntry {
  WordKey key;                            // all zero: empty, since no word has length 0
  std::array<int32_t, kCachedIds> ids{};  // -1 after the last
};

constexpr auto kKeyMasks = [] {
  std::array<std::array<uint64_t, 4>, kShortWord + 1> masks{};
  for (size_t length = 0; length <= kShortWord; ++length) {
    for (size_t i = 0; i < 4; ++i) {
      const size_t bytes = length > 8 * i ? std::min<size_t>(length - 8 * i, 8) : 0;
      masks[length][i] = bytes == 8 ? ~uint64_t{0} : (uint64_t{1} << (8 * bytes)) - 1;
    }
  }
  return masks;
}();
static_assert(std::endian::native == std::endian::little,
              "word keys are laid out for little-endian machines");

WordKey word_key(std::string_view text, size_t begin, size_t length) {
  WordKey key;
  if (begin + sizeof key <= text.size()) {
    std::memcpy(key.words.data(), text.data() + begin, sizeof key);
    for (size_t i = 0; i < 4; ++i) key.words[i] &= kKeyMasks[length][i];
  } else {
    std::memcpy(key.words.data(), text.data() + begin, length);
  }
  key.words[3] |= static_cast<uint64_t>(length) << 56;
  return key;
}

}  // namespace

struct TokenEncoder::State {
  Tokenizer tokenizer;
  std::vector<CacheEntry> cache;  // a power of two of them

  [[nodiscard]] const Tokenizer::Tables& tables() const { return *tokenizer.tables_; }

  /// Text between added tokens that are matched in raw text.
  void plain(const TextSection& section, std::vector<int32_t>& ids, bool find_added) {
    const Tokenizer::Tables& t = tables();
    if (t.any_bytes || is_utf8(section.text)) return well_formed(section, ids, find_added);
    require(t.byte_level && t.normalizers.empty(),
            "the text is not valid UTF-8 at byte {} of {}: this tokenizer requires UTF-8; convert the text, "
            "or use a byte-level tokenizer",
            invalid_byte(section.text), section.text.size());
    // `tokenizers` does not accept such text. Invalid bytes are separate words here.
    const std::string_view text = section.text;
    for (size_t begin = 0; begin < text.size();) {
      size_t end = begin + invalid_byte(text.substr(begin));
      if (end > begin) {
        well_formed({text.substr(begin, end - begin), -1, section.front && begin == 0,
                     section.continues || begin > 0},
                    ids, find_added);
        begin = end;
      }
      while (end < text.size() && decode_utf8(text, end).code == Utf8Char::kInvalid) ++end;
      if (end > begin) word(text, begin, end - begin, ids);
      begin = end;
    }
  }

  void well_formed(const TextSection& section, std::vector<int32_t>& ids, bool find_added) {
    const Tokenizer::Tables& t = tables();
    const size_t first = section.front && !section.text.empty() ? decode_utf8(section.text, 0).bytes : 0;
    NormalText normal{"", first, section.continues};
    Piece all{section.text, first};
    if (!t.normalizers.empty()) {
      normal.text = section.text;
      for (const auto& step : t.normalizers) step->apply(normal);
      all = {normal.text, normal.front};
    }
    if (!find_added || t.added.normalized.empty()) return pieces(all, ids);
    t.added.normalized.split(
        all.text, [&](size_t begin, size_t end) { pieces(all.part(begin, end), ids); },
        [&](int32_t id) { ids.push_back(id); });
  }

  void pieces(const Piece& piece, std::vector<int32_t>& ids) {
    const Tokenizer::Tables& t = tables();
    if (t.cuts == Cuts::kAnywhere) {
      t.model->encode(piece.text, ids);
    } else if (t.word_end != nullptr) {
      for (size_t begin = 0; begin < piece.text.size();) {
        const size_t end = t.word_end(piece.text, begin);
        word(piece.text, begin, end - begin, ids);
        begin = end;
      }
    } else {
      from_stage(0, piece, ids);
    }
  }

  void from_stage(size_t i, const Piece& piece, std::vector<int32_t>& ids) {
    if (piece.text.empty()) return;
    const Tokenizer::Tables& t = tables();
    if (i < t.stages.size()) {
      return t.stages[i]->split(piece, [&](const Piece& part) { from_stage(i + 1, part, ids); });
    }
    for (size_t begin = 0; begin < piece.text.size();) {
      const size_t end = t.model->part_end(piece.text, begin);
      word(piece.text, begin, end - begin, ids);
      begin = end;
    }
  }

  void word(std::string_view text, size_t begin, size_t length, std::vector<int32_t>& ids) {
    const Tokenizer::Tables& t = tables();
    if (length > kShortWord) return t.model->encode(text.substr(begin, length), ids);
    const WordKey key = word_key(text, begin, length);
    const size_t mask = cache.size() - 1;
    const size_t home = key.hash() & mask;
    size_t slot = home;  // replaced if no slot is free
    for (size_t i = 0; i < kProbes; ++i) {
      CacheEntry& entry = cache[(home + i) & mask];
      if (entry.key == key) {
        for (size_t k = 0; k < kCachedIds && entry.ids[k] >= 0; ++k) ids.push_back(entry.ids[k]);
        return;
      }
      if (entry.key.words[3] == 0) {
        slot = (home + i) & mask;
        break;
      }
    }
    const size_t before = ids.size();
    t.model->encode(text.substr(begin, length), ids);
    const size_t count = ids.size() - before;
    if (count <= kCachedIds) {
      CacheEntry& entry = cache[slot];
      entry.key = key;
      for (size_t k = 0; k < kCachedIds; ++k) entry.ids[k] = k < count ? ids[before + k] : -1;
    }
  }

  static size_t invalid_byte(std::string_view text) {
    size_t i = 0;
    while (i < text.size()) {
      const Utf8Char c = decode_utf8(text, i);
      if (c.code == Utf8Char::kInvalid) break;
      i += c.bytes;
    }
    return i;
  }
};

TokenEncoder::TokenEncoder(Tokenizer tokenizer, size_t expected_bytes) {
  const size_t slots = std::bit_ceil(std::clamp(expected_bytes / 4, kFewestSlots, kMostSlots));
  state_ = std::make_unique<State>(State{std::move(tokenizer), std::vector<CacheEntry>(slots)});
}
TokenEncoder::~TokenEncoder() = default;
TokenEncoder::TokenEncoder(TokenEncoder&&) noexcept = default;
TokenEncoder& TokenEncoder::operator=(TokenEncoder&&) noexcept = default;

void TokenEncoder::encode(std::string_view text, std::vector<int32_t>& ids, AddedTokens added) {
  if (added == AddedTokens::kAsText) return state_->plain({text}, ids, false);
  state_->tables().added.raw.split(
      text,
      [&](size_t begin, size_t end) {
        state_->plain({text.substr(begin, end - begin), -1, begin == 0}, ids, true);
      },
      [&](int32_t id) { ids.push_back(id); });
}

void TokenEncoder::encode(const TextSection& section, std::vector<int32_t>& ids) {
  if (section.id >= 0) return ids.push_back(section.id);
  state_->plain(section, ids, !state_->tables().normalizers.empty());
}

}  // namespace tutti
