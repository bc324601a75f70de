#include "core/data/tokenizer/added_tokens.h"
#include "core/config/utf8.h"
#include "core/data/unicode.h"

#include <algorithm>

namespace tutti {
namespace {

bool word_at(std::string_view text, size_t begin) {
  const char32_t code = decode_utf8(text, begin).code;
  return code != Utf8Char::kInvalid && is_word(code);
}

bool space_at(std::string_view text, size_t begin) {
  return is_space(decode_utf8(text, begin).code);
}

}  // namespace

void TokenFinder::add(std::string_view pattern, const AddedToken& token) {
  // The first of two tokens with the same text is found; tokenizers finds any of them, which varies by
  // process.
  int32_t node = ByteTrie::kRoot;
  for (size_t i = 0; i < pattern.size() && node >= 0; ++i) {
    node = trie_.child(node, static_cast<unsigned char>(pattern[i]));
  }
  if (node >= 0 && trie_.value(node) >= 0) return;
  trie_.put(pattern, static_cast<int32_t>(tokens_.size()));
  first_byte_[static_cast<unsigned char>(pattern.front())] = true;
  tokens_.push_back(token);
}

void TokenFinder::split(std::string_view text, FunctionRef<void(size_t, size_t)> plain,
                        FunctionRef<void(int32_t)> token) const {
  size_t done = 0;
  for (size_t i = 0; !tokens_.empty() && i < text.size();) {
    int32_t longest = -1;
    size_t match_end = i;
    if (first_byte_[static_cast<unsigned char>(text[i])]) {
      int32_t node = ByteTrie::kRoot;
      for (size_t k = i; k < text.size(); ++k) {
        node = trie_.child(node, static_cast<unsigned char>(text[k]));
        if (node < 0) break;
        if (const int32_t value = trie_.value(node); value >= 0) longest = value, match_end = k + 1;
      }
    }
    if (longest < 0) {
      ++i;
      continue;
    }
    size_t begin = i, end = match_end;
    i = match_end;
    const AddedToken& found = tokens_[static_cast<size_t>(longest)];
    if (found.single_word && ((begin > 0 && word_at(text, character_before(text, begin))) ||
                              (end < text.size() && word_at(text, end)))) {
      continue;
    }
    if (found.lstrip) {
      while (begin > done && space_at(text, character_before(text, begin)))
        begin = character_before(text, begin);
      begin = std::max(begin, done);
    }
    if (found.rstrip) {
      while (end < text.size() && space_at(text, end)) end += decode_utf8(text, end).bytes;
    }
    if (done < begin) plain(done, begin);
    token(found.id);
    done = end;
  }
  if (done < text.size()) plain(done, text.size());
}

AddedVocabulary::AddedVocabulary(std::vector<AddedToken> tokens, size_t model_size,
                                 const std::function<int32_t(const std::string&)>& token_id,
                                 const std::function<std::string(const std::string&)>& normalize,
                                 const std::string& name) {
  const auto same = [](const AddedToken& a, const AddedToken& b) {
    return a.content == b.content && a.special == b.special && a.normalized == b.normalized &&
           a.single_word == b.single_word && a.lstrip == b.lstrip && a.rstrip == b.rstrip;
  };
  int64_t last = -1;  // the largest id of an added token
  std::unordered_map<int32_t, size_t> place;
  std::vector<AddedToken> special, ordinary;
  std::unordered_map<std::string, bool> is_special;
  for (AddedToken& token : tokens) {
    if (token.content.empty()) continue;
    require(is_utf8(token.content), "{}: an added token is not valid UTF-8", name);
    if (token.special && is_special.emplace(token.content, true).second) special.push_back(token);
    const auto known = ids_.find(token.content);
    int64_t id = known != ids_.end() ? known->second : token_id(token.content);
    const auto there = id < 0 ? place.end() : place.find(static_cast<int32_t>(id));
    if (there != place.end() && same(tokens_[there->second], token)) continue;
    if (id < 0) id = std::max<int64_t>(last + 1, static_cast<int64_t>(model_size));
    require(id < kMaxVocabulary, "{}: added token '{}' would have id {}; the maximum is {} tokens", name,
            shown(token.content), id, kMaxVocabulary);
    token.id = static_cast<int32_t>(id);
    last = std::max(last, id);
    ids_[token.content] = token.id;
    if (const auto [at, fresh] = place.emplace(token.id, tokens_.size()); fresh) {
      tokens_.push_back(token);
    } else {
      tokens_[at->second] = token;
    }
    if (!is_special.contains(token.content)) ordinary.push_back(token);
  }
  const auto find_in_text = [&](const AddedToken& listed) {
    // Its text is matched as listed; the white space that it includes is set by the last token with its id.
    const AddedToken& token = tokens_[place.at(ids_.at(listed.content))];
    if (!listed.normalized) {
      raw.add(listed.content, token);
      return;
    }
    const std::string pattern = normalize(listed.content);
    require(!pattern.empty(), "{}: added token '{}' is empty once it is normalized", name,
            shown(listed.content));
    normalized.add(pattern, token);
    const bool space =
        pattern.find(' ') != std::string::npos || pattern.find("\u2581", 1) != std::string::npos;
    normalized_take_spaces |= space || token.single_word || token.lstrip || token.rstrip;
  };
  for (const AddedToken& token : special) find_in_text(token);
  for (const AddedToken& token : ordinary) find_in_text(token);
}

std::optional<int32_t> AddedVocabulary::find(std::string_view content) const {
  const auto found = ids_.find(std::string(content));
  return found == ids_.end() ? std::nullopt : std::optional(found->second);
}

AddedTokenFinder::AddedTokenFinder(const std::vector<AddedToken>& tokens) {
  for (const AddedToken& token : tokens) {
    if (!token.content.empty()) (token.normalized ? after_ : before_).add(token.content, token);
  }
}

void AddedTokenFinder::split(std::string_view text, FunctionRef<void(std::string_view)> plain,
                             FunctionRef<void(int32_t)> token) const {
  before_.split(
      text,
      [&](size_t begin, size_t end) {
        const std::string_view rest = text.substr(begin, end - begin);
        after_.split(
            rest, [&](size_t b, size_t e) { plain(rest.substr(b, e - b)); }, token);
      },
      token);
}

}  // namespace tutti
