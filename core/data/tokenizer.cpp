#include <tutti/core/checkpoint/file.h>
#include <tutti/core/checkpoint/sha256.h>
#include <tutti/core/data/bpe_tables.h>
#include <tutti/core/data/tokenizer.h>
#include <tutti/core/error.h>

namespace tutti {

Tokenizer::Tokenizer(BpeModel model, const std::string& name) {
  auto tables = std::make_shared<Tables>(std::move(model), name);
  tables_ = tables;
  tables->digest = tutti::sha256(to_json());
}

Tokenizer Tokenizer::bytes() {
  BpeModel model;
  model.split = false;
  for (int byte = 0; byte < 256; ++byte) model.tokens.emplace_back(1, static_cast<char>(byte));
  return Tokenizer(std::move(model), "byte tokenizer");
}

Tokenizer Tokenizer::load(const std::filesystem::path& path) {
  return from_json(read_text_file(path, kMaxTokenizerBytes), path.string());
}

void Tokenizer::save(const std::filesystem::path& path) const {
  write_file_atomically(path, to_json());
}

int64_t Tokenizer::vocabulary() const noexcept {
  return static_cast<int64_t>(tables_->model.tokens.size());
}

const BpeModel& Tokenizer::model() const noexcept {
  return tables_->model;
}

const std::string& Tokenizer::sha256() const noexcept {
  return tables_->digest;
}

std::optional<int32_t> Tokenizer::added(std::string_view content) const {
  for (const AddedToken& token : tables_->model.added) {
    if (token.content == content) return token.id;
  }
  return std::nullopt;
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, AddedTokens added) const {
  std::vector<int32_t> ids;
  TokenEncoder(*this, text.size()).encode(text, ids, added);
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  std::string text;
  for (const int32_t id : ids) {
    require(id >= 0 && id < vocabulary(), "tokenizer: id {} is outside of the vocabulary of {}", id,
            vocabulary());
    text += tables_->model.tokens[static_cast<size_t>(id)];
  }
  return text;
}

}  // namespace tutti
