#include "core/data/prepare/character_tokenizer.h"
#include "core/data/unicode.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <vector>

namespace tutti {
namespace {

constexpr int64_t kPart = int64_t{1} << 20;
constexpr size_t kCodePoints = 0x110000;

/// Which code points beyond ASCII occur.
std::vector<bool> characters_of(std::span<const std::string_view> texts, ThreadPool& pool) {
  std::vector<bool> all(kCodePoints);
  std::mutex mutex;
  for (const std::string_view text : texts) {
    pool.parallel_ranges(static_cast<int64_t>(text.size()), kPart, [&](int64_t begin, int64_t end) {
      std::vector<char32_t> found;
      std::vector<bool> seen(kCodePoints);
      // A character that crosses the beginning belongs to the range before.
      for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end);) {
        const Utf8Char c = decode_utf8(text, i);
        i += c.bytes;
        if (c.code < 0x80 || c.code == Utf8Char::kInvalid || seen[c.code]) continue;
        seen[c.code] = true;
        found.push_back(c.code);
      }
      const std::scoped_lock lock(mutex);
      for (const char32_t code : found) all[code] = true;
    });
  }
  return all;
}

}  // namespace

Tokenizer character_tokenizer(std::span<const std::string_view> texts, ThreadPool& pool) {
  BpeModel model;
  for (int byte = 0; byte < 256; ++byte) model.tokens.emplace_back(1, static_cast<char>(byte));
  const std::vector<bool> occurs = characters_of(texts, pool);
  std::map<std::string, int32_t> ids;
  for (size_t code = 0; code < kCodePoints; ++code) {
    if (!occurs[code]) continue;
    std::string bytes;
    append_utf8(bytes, static_cast<char32_t>(code));
    // A merge begins with a lead byte, so none crosses characters.
    int32_t left = static_cast<unsigned char>(bytes[0]);
    for (size_t length = 2; length <= bytes.size(); ++length) {
      const auto [known, fresh] =
          ids.emplace(bytes.substr(0, length), static_cast<int32_t>(model.tokens.size()));
      if (fresh) {
        model.tokens.push_back(known->first);
        model.merges.emplace_back(left, static_cast<unsigned char>(bytes[length - 1]));
      }
      left = known->second;
    }
  }
  model.added.push_back(
      {.content = std::string(kEndOfText), .id = static_cast<int32_t>(model.tokens.size())});
  model.tokens.emplace_back(kEndOfText);
  return Tokenizer(std::move(model), "tokenizer of characters");
}

}  // namespace tutti
