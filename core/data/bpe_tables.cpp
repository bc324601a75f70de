#include <tutti/core/config/utf8.h>
#include <tutti/core/data/bpe_tables.h>
#include <tutti/core/error.h>

#include <algorithm>

namespace tutti {

void AddedTokenFinder::Group::add(const AddedToken& token) {
  const auto longer = [](const AddedToken& a, const AddedToken& b) {
    return a.content.size() > b.content.size();
  };
  tokens.insert(std::upper_bound(tokens.begin(), tokens.end(), token, longer), token);
  first_byte[static_cast<unsigned char>(token.content.front())] = true;
}

void AddedTokenFinder::Group::split(std::string_view text, FunctionRef<void(std::string_view)> plain,
                                    FunctionRef<void(int32_t)> token) const {
  size_t done = 0;
  for (size_t i = 0; !tokens.empty() && i < text.size();) {
    if (!first_byte[static_cast<unsigned char>(text[i])]) {
      ++i;
      continue;
    }
    const auto found = std::find_if(tokens.begin(), tokens.end(), [&](const AddedToken& candidate) {
      return text.substr(i).starts_with(candidate.content);
    });
    if (found == tokens.end()) {
      ++i;
      continue;
    }
    if (i > done) plain(text.substr(done, i - done));
    token(found->id);
    i += found->content.size();
    done = i;
  }
  if (done < text.size()) plain(text.substr(done));
}

AddedTokenFinder::AddedTokenFinder(const std::vector<AddedToken>& tokens) {
  for (const AddedToken& token : tokens) {
    if (!token.content.empty()) (token.normalized ? after_ : before_).add(token);
  }
}

void AddedTokenFinder::split(std::string_view text, FunctionRef<void(std::string_view)> plain,
                             FunctionRef<void(int32_t)> token) const {
  const auto section = [&](std::string_view rest) { after_.split(rest, plain, token); };
  before_.split(text, section, token);
}

Tokenizer::Tables::Tables(BpeModel m, const std::string& name)
    : model(std::move(m)), merges(model.merges.size()), finder(model.added) {
  auto& tokens = model.tokens;
  require(static_cast<int64_t>(tokens.size()) <= kMaxVocabulary,
          "{}: a vocabulary of {} tokens; at most {} are possible", name, tokens.size(), kMaxVocabulary);
  const auto size = static_cast<int32_t>(tokens.size());
  std::vector<bool> is_added(tokens.size());
  // Added tokens whose text is also their name in byte symbols may be bytes or merged like others.
  const auto ordinary = [&](int32_t id) {
    const std::string& token = tokens[static_cast<size_t>(id)];
    return !token.empty() && (!is_added[static_cast<size_t>(id)] || symbols_of_bytes(token) == token);
  };
  std::unordered_map<std::string_view, int32_t> contents;
  for (const AddedToken& token : model.added) {
    require(!token.content.empty() && is_utf8(token.content),
            "{}: the added token with id {} has no UTF-8 text", name, token.id);
    require(token.id >= 0 && token.id < size && tokens[static_cast<size_t>(token.id)] == token.content,
            "{}: added token '{}' and id {} do not fit the vocabulary", name, token.content, token.id);
    require(contents.emplace(token.content, token.id).second && !is_added[static_cast<size_t>(token.id)],
            "{}: added token '{}' (id {}) stands twice", name, token.content, token.id);
    is_added[static_cast<size_t>(token.id)] = true;
  }
  byte_ids.fill(-1);
  for (int32_t id = 0; id < size; ++id) {
    const std::string& token = tokens[static_cast<size_t>(id)];
    if (token.size() != 1 || !ordinary(id)) continue;
    int32_t& slot = byte_ids[static_cast<unsigned char>(token.front())];
    require(slot < 0, "{}: ids {} and {} stand for the same byte", name, slot, id);
    slot = id;
  }
  for (size_t byte = 0; byte < byte_ids.size(); ++byte) {
    require(byte_ids[byte] >= 0, "{}: no token for byte 0x{:02x}; a byte-level vocabulary has all 256", name,
            byte);
  }
  for (size_t rank = 0; rank < model.merges.size(); ++rank) {
    const auto [left, right] = model.merges[rank];
    require(left >= 0 && left < size && right >= 0 && right < size,
            "{}: merge {} joins ids {} and {}; the vocabulary has {}", name, rank, left, right, size);
  }
  std::unordered_map<std::string_view, int32_t> by_bytes;
  for (int32_t id = 0; id < size; ++id) {
    const std::string& token = tokens[static_cast<size_t>(id)];
    if (!ordinary(id)) continue;
    const auto [other, fresh] = by_bytes.emplace(token, id);
    require(fresh, "{}: ids {} and {} stand for the same bytes", name, other->second, id);
  }
  for (size_t rank = 0; rank < model.merges.size(); ++rank) {
    const auto [left, right] = model.merges[rank];
    const std::string joined = tokens[static_cast<size_t>(left)] + tokens[static_cast<size_t>(right)];
    const auto found = by_bytes.find(joined);
    require(found != by_bytes.end(), "{}: merge {} makes a token that the vocabulary does not have", name,
            rank);
    require(merges.insert(left, right, {static_cast<uint32_t>(rank), found->second}),
            "{}: merge {} stands twice", name, rank);
  }
  if (model.ignore_merges) words = std::move(by_bytes);
}

}  // namespace tutti
