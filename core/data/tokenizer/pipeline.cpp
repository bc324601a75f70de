#include "core/data/tokenizer/pipeline.h"
#include <tutti/core/io/sha256.h>
#include "core/data/split.h"
#include "core/data/unicode.h"
#include "core/io/json.h"

#include <algorithm>

namespace tutti {
namespace {

bool has(const JsonEntry& root, const char* key) {
  // {} and null both mean absent
  return !root.null(key) && !(root.value().at(key).is_object() && root.value().at(key).empty());
}

std::vector<AddedToken> read_added(const JsonEntry& root) {
  std::vector<AddedToken> tokens;
  if (root.null("added_tokens")) return tokens;
  const JsonEntry list = root.list("added_tokens");
  for (size_t i = 0; i < list.size(); ++i) {
    const JsonEntry item = list.item(i);
    item.check(item.value().is_object(), "expected an object");
    (void)item.at("id").id();  // its number comes from the vocabulary
    AddedToken token{.content = item.text("content"), .special = item.flag("special", false)};
    token.normalized = item.flag("normalized", !token.special);
    token.single_word = item.flag("single_word", false);
    token.lstrip = item.flag("lstrip", false);
    token.rstrip = item.flag("rstrip", false);
    tokens.push_back(std::move(token));
  }
  return tokens;
}

}  // namespace

Tokenizer::Tables::Tables(std::string text, const std::string& name) : json(std::move(text)) {
  require(static_cast<int64_t>(json.size()) <= kMaxTokenizerBytes, "{}: {} bytes; the maximum is {}", name,
          json.size(), kMaxTokenizerBytes);
  require(!json.empty(), "{}: the file is empty", name);
  require(!json.starts_with("\xef\xbb\xbf"), "{}: begins with a byte order mark; expected JSON without one",
          name);
  const nlohmann::json root = parse_strict_json(json, name);
  require(root.is_object(), "{}: expected a JSON object", name);
  read_parts({root, name}, name);
  digest = tutti::sha256(json);
}

void Tokenizer::Tables::read_parts(const JsonEntry& root, const std::string& name) {
  if (has(root, "normalizer")) normalizers = read_normalizers(root.at("normalizer"));
  if (has(root, "pre_tokenizer")) stages = read_pre_tokenizers(root.at("pre_tokenizer"));
  if (has(root, "decoder")) decoders = read_decoders(root.at("decoder"));
  if (has(root, "post_processor")) frame = read_post_processor(root.at("post_processor"));
  model = read_token_model(root.object("model"));
  // truncation and padding are for batches: AutoTokenizer disables them, too.
  if (auto* const last = stages.empty() ? nullptr : dynamic_cast<ByteLevelSplit*>(stages.back().get())) {
    const bool alone = std::none_of(stages.begin(), stages.end() - 1, [](const auto& stage) {
      return dynamic_cast<ByteLevelSplit*>(stage.get()) != nullptr;
    });
    byte_level = alone && model->take_bytes();
    if (byte_level) last->as_bytes();
  }
  read_tokens(root, name);
  find_properties();
}

bool Tokenizer::Tables::ends_a_word(std::string_view text) const {
  if (normalizers.empty()) return true;
  // With some characters before it, and alone: characters before it may combine with it.
  for (const size_t characters : {1, 4}) {
    size_t begin = text.size();
    for (size_t i = 0; i < characters && begin > 0; ++i) begin = character_before(text, begin);
    NormalText normal{std::string(text.substr(begin)), 0, true};
    for (const auto& step : normalizers) step->apply(normal);
    if (normal.text.empty()) return false;
    const size_t last = character_before(normal.text, normal.text.size());
    const CharClass kind = char_class(decode_utf8(normal.text, last).code);
    if (kind != CharClass::kLetter && kind != CharClass::kNumber) return false;
  }
  return true;
}

void Tokenizer::Tables::read_tokens(const JsonEntry& root, const std::string& name) {
  const TokenIds& ids = model->vocabulary();
  const auto id_of = [&](const std::string& token) {
    const auto found = ids.find(token);
    return found == ids.end() ? -1 : found->second;
  };
  const auto normalize = [&](const std::string& text) {
    NormalText normal{text};
    for (const auto& step : normalizers) step->apply(normal);
    return normal.text;
  };
  added = AddedVocabulary(read_added(root), model->size(), id_of, normalize, name + ": added_tokens");
  const auto put = [&](const std::string& token, int32_t id) {
    const auto i = static_cast<size_t>(id);
    if (i >= tokens.size()) tokens.resize(i + 1);
    tokens[i] = token;
  };
  for (const auto& [token, id] : ids) put(token, id);
  // Tokens that are matched in normalized text decode to that text.
  for (const AddedToken& token : added.tokens()) {
    put(token.normalized ? normalize(token.content) : token.content, token.id);
  }
  const auto in_vocabulary = [&](const std::vector<int32_t>& framed) {
    return std::all_of(framed.begin(), framed.end(),
                       [&](int32_t id) { return static_cast<size_t>(id) < tokens.size(); });
  };
  require(in_vocabulary(frame.before) && in_vocabulary(frame.behind),
          "{}: post_processor: an id is outside the vocabulary of {}", name, tokens.size());
}

void Tokenizer::Tables::find_properties() {
  using Before = PreTokenizer::BeforeSpace;
  if (stages.size() == 1 && byte_level) word_end = stages.front()->word_end();
  if (stages.size() == 2 && byte_level && stages.back()->before_space() == Before::kStable &&
      !static_cast<const ByteLevelSplit&>(*stages.back()).adds_space()) {
    word_end = stages.front()->word_end();  // Split, then bytes
  }
  any_bytes = byte_level && normalizers.empty() && (stages.size() == 1 || word_end != nullptr);
  if (decoders.size() == 1 && decoders.front()->byte_level()) {
    bytes.reserve(tokens.size());
    for (const std::string& token : tokens) bytes.push_back(bytes_of_symbols(token).value_or(token));
  }
  const auto plain = [&](const AddedToken& token) {
    return !token.lstrip && !token.rstrip && bytes[static_cast<size_t>(token.id)] == token.content;
  };
  lossless =
      byte_level && normalizers.empty() && !bytes.empty() &&
      std::all_of(stages.begin(), stages.end(), [](const auto& stage) { return stage->keeps_text(); }) &&
      std::all_of(added.tokens().begin(), added.tokens().end(), plain);

  const bool stable =
      std::all_of(normalizers.begin(), normalizers.end(),
                  [](const auto& step) { return step->stable_before_space(); }) &&
      std::all_of(stages.begin(), stages.end(),
                  [](const auto& stage) { return stage->before_space() != Before::kUnknown; }) &&
      (normalizers.empty() || !added.normalized_take_spaces);
  const bool boundary = std::any_of(stages.begin(), stages.end(), [](const auto& stage) {
    return stage->before_space() == Before::kBoundary;
  });
  if (any_bytes && word_end == &tutti::word_end) {
    cuts = Cuts::kWords;
  } else if (byte_level && normalizers.empty() && stages.size() == 1 && model->one_by_one() &&
             stages.front()->keeps_text()) {
    cuts = Cuts::kAnywhere;
  } else if (stable && boundary) {
    cuts = Cuts::kBeforeSpaces;
  } else if (stable) {
    NormalText space{" ", 0, true};  // input of the model at a split
    for (const auto& step : normalizers) step->apply(space);
    std::string seen = space.text;
    const auto keep = [&](const Piece& piece) { seen = piece.text; };
    for (const auto& stage : stages) stage->split({std::string(seen), 0}, keep);
    const Utf8Char mark = seen.empty() ? Utf8Char{} : decode_utf8(seen, 0);
    if (mark.code != Utf8Char::kInvalid && model->cuts_before(mark.code)) cuts = Cuts::kBeforeSpaces;
  }
}

}  // namespace tutti
