#include <tutti/core/error.h>
#include <tutti/core/io/file.h>
#include "core/config/utf8.h"
#include "core/data/split.h"
#include "core/data/tokenizer/pipeline.h"
#include "core/data/unicode.h"

#include <array>

namespace tutti {
namespace {

/// Published names of end-of-text tokens: GPT-2, Llama-3, DeepSeek, SentencePiece, Gemma.
constexpr std::array<std::string_view, 5> kEnds = {kEndOfText, "<|end_of_text|>", "<｜end▁of▁sentence｜>",
                                                   "</s>", "<eos>"};

/// Bytes of an incomplete character at the end of a text.
size_t incomplete_bytes(std::string_view text) {
  for (size_t n = 1; n <= std::min<size_t>(3, text.size()); ++n) {
    const auto byte = static_cast<unsigned char>(text[text.size() - n]);
    if ((byte & 0xc0U) == 0x80U) continue;
    const size_t length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return length > n ? n : 0;
  }
  return 0;
}

/// A list of ids for messages; empty if the text cannot be encoded.
std::string ids_of(const Tokenizer& tokenizer, std::string_view text) {
  try {
    return fmt::format("ids {}", fmt::join(tokenizer.encode(text, AddedTokens::kAsText), " "));
  } catch (const Error&) {
    return "no ids";
  }
}

}  // namespace

Tokenizer Tokenizer::bytes() {
  BpeModel model;
  model.split = false;
  for (int byte = 0; byte < 256; ++byte) model.tokens.emplace_back(1, static_cast<char>(byte));
  return Tokenizer(std::move(model), "byte tokenizer");
}

Tokenizer Tokenizer::from_json(std::string_view text, const std::string& name) {
  return Tokenizer(std::make_shared<const Tables>(std::string(text), name));
}

void Tokenizer::save(const std::filesystem::path& path) const {
  write_file_atomically(path, to_json());
  for (const auto& [name, content] : tables_->companions) {
    write_file_atomically(path.parent_path() / name, content);
  }
}

int64_t Tokenizer::vocabulary() const noexcept {
  return static_cast<int64_t>(tables_->tokens.size());
}

const BpeModel& Tokenizer::model() const {
  require(tables_->made_of.has_value(),
          "tokenizer: was read from a file; only one that was created from a BpeModel has one");
  return *tables_->made_of;
}

const std::string& Tokenizer::to_json() const noexcept {
  return tables_->json;
}

const std::string& Tokenizer::sha256() const noexcept {
  return tables_->digest;
}

bool Tokenizer::lossless() const noexcept {
  return tables_->lossless;
}

std::span<const int32_t> Tokenizer::before() const noexcept {
  return tables_->frame.before;
}

std::span<const int32_t> Tokenizer::behind() const noexcept {
  return tables_->frame.behind;
}

std::optional<int32_t> Tokenizer::added(std::string_view content) const {
  return tables_->added.find(content);
}

std::optional<int32_t> Tokenizer::token_id(std::string_view token) const {
  if (const auto id = added(token)) return id;
  const auto found = tables_->model->vocabulary().find(token);
  return found == tables_->model->vocabulary().end() ? std::nullopt : std::optional(found->second);
}

std::optional<std::string> Tokenizer::difference(const Tokenizer& expected) const {
  constexpr size_t kTexts = 2000;
  const std::vector<std::string>& mine = tables_->tokens;
  const std::vector<std::string>& theirs = expected.tables_->tokens;
  for (size_t id = 0; id < mine.size(); ++id) {
    if (mine[id].empty() || (id < theirs.size() && mine[id] == theirs[id])) continue;
    return fmt::format("id {} is '{}'; expected {}", id, shown(mine[id]),
                       id < theirs.size() ? fmt::format("'{}'", shown(theirs[id]))
                                          : fmt::format("at most {} tokens", theirs.size()));
  }
  // Merges, scores and word rules are compared by the ids of texts: those of tokens, and one with numbers,
  // contractions and other scripts.
  std::vector<std::string> texts;
  for (size_t id = 0; id < theirs.size(); id += 1 + theirs.size() / kTexts) {
    const auto number = static_cast<int32_t>(id);
    if (!theirs[id].empty()) texts.push_back(expected.decode({&number, 1}));
  }
  texts.emplace_back("He can't  pay 1234.56\n\n\tna\u00efve \u6f22\u5b57 isEmpty() ");
  for (const std::string& text : texts) {
    const std::string found = ids_of(*this, text), wanted = ids_of(expected, text);
    if (found != wanted) return fmt::format("'{}' has {}; expected {}", shown(text), found, wanted);
  }
  return std::nullopt;
}

std::optional<int32_t> Tokenizer::end_of_text() const {
  if (tables_->end_of_text) {
    if (const auto id = token_id(*tables_->end_of_text)) return id;
  }
  for (const std::string_view name : kEnds) {
    if (const auto id = added(name)) return id;
  }
  return std::nullopt;
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, AddedTokens added) const {
  std::vector<int32_t> ids;
  TokenEncoder(*this, text.size()).encode(text, ids, added);
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  const Tables& t = *tables_;
  std::string text;
  std::vector<std::string> tokens;
  for (const int32_t id : ids) {
    require(id >= 0 && id < vocabulary(), "tokenizer: id {} is outside the vocabulary of {}", id,
            vocabulary());
    const auto i = static_cast<size_t>(id);
    if (!t.bytes.empty()) {
      text += t.bytes[i];
    } else if (!t.tokens[i].empty()) {
      tokens.push_back(t.tokens[i]);
    }
  }
  if (!t.bytes.empty()) return text;
  for (const auto& step : t.decoders) step->apply(tokens);
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0 && t.decoders.empty()) text += ' ';
    text += tokens[i];
  }
  return text;
}

std::vector<TextSection> Tokenizer::sections(std::string_view document, size_t bytes) const {
  const Tables& t = *tables_;
  std::vector<TextSection> all;
  const auto end_of = [&](std::string_view text, size_t begin) {
    const size_t target = std::min(begin + bytes, text.size());
    if (t.cuts == Cuts::kAnywhere) return target;
    if (t.cuts == Cuts::kWords) return cut_point(text, target);
    if (t.cuts == Cuts::kBeforeSpaces) {
      size_t cut = cut_before_space(text, target);
      while (cut < text.size() && !t.ends_a_word(text.substr(0, cut))) cut = cut_before_space(text, cut + 1);
      return cut;
    }
    return text.size();
  };
  const auto plain = [&](std::string_view text, bool first) {
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = end_of(text, begin);
      all.push_back({text.substr(begin, end - begin), -1, first && begin == 0, begin > 0});
      begin = end;
    }
  };
  const auto token = [&](int32_t id) { all.push_back({{}, id}); };
  t.added.raw.split(
      document,
      [&](size_t begin, size_t end) {
        const std::string_view text = document.substr(begin, end - begin);
        // Without normalizers, tokens of normalized text are also matched here.
        if (!t.normalizers.empty() || t.added.normalized.empty()) return plain(text, begin == 0);
        t.added.normalized.split(
            text, [&](size_t b, size_t e) { plain(text.substr(b, e - b), begin + b == 0); }, token);
      },
      token);
  return all;
}

std::string TokenDecoder::add(int32_t id) {
  constexpr size_t kRemembered = 16, kFewest = 4, kMost = 8, kMostHeld = 64;
  ids_.push_back(id);
  const std::string text = tokenizer_.decode(ids_);
  size_t end = text.size() - incomplete_bytes(text);
  // Bytes that a decoder could not read yet: the rest of the character may follow.
  const std::string_view all(text);
  while (all.substr(0, end).ends_with("\ufffd") && end + 3 * kMostHeld > text.size()) end -= 3;
  if (end <= returned_) return {};
  std::string fresh = text.substr(returned_, end - returned_);
  returned_ = end;
  // Removes tokens that the text of the last ones does not depend on. Of four numbers of tokens to keep, one
  // begins with a complete character even if each token is a byte.
  for (size_t kept = kFewest; end == text.size() && ids_.size() >= kRemembered && kept < kMost; ++kept) {
    const std::string rest = tokenizer_.decode(std::span(ids_).last(kept));
    if (!all.ends_with(rest)) continue;
    returned_ = rest.size();
    ids_.erase(ids_.begin(), ids_.end() - static_cast<std::ptrdiff_t>(kept));
  }
  return fresh;
}

std::string TokenDecoder::finish() {
  const std::string text = tokenizer_.decode(ids_);
  std::string fresh = text.size() > returned_ ? text.substr(returned_) : "";
  ids_.clear();
  returned_ = 0;
  return fresh;
}

}  // namespace tutti
