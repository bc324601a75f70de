#include "core/data/tokenizer/decoder.h"

namespace tutti {
namespace {

/// ["[CLS]", 101]
int32_t named_id(const JsonEntry& pair) {
  pair.check(pair.value().is_array() && pair.size() == 2 && pair.value()[0].is_string(),
             "expected a token and its id");
  return pair.item(1).id();
}

Frame read_template(const JsonEntry& entry) {
  Frame frame;
  bool seen = false;
  const JsonEntry single = entry.list("single");
  for (size_t i = 0; i < single.size(); ++i) {
    const JsonEntry piece = single.item(i);
    if (!piece.null("Sequence")) {
      const std::string which = piece.object("Sequence").text("id");
      piece.check(which == "A" && !seen, "expected the text once, as Sequence 'A'");
      seen = true;
      continue;
    }
    const std::string token = piece.object("SpecialToken").text("id");
    const JsonEntry tokens = entry.object("special_tokens");
    const JsonEntry ids = tokens.object(token.c_str()).list("ids");
    for (size_t k = 0; k < ids.size(); ++k) (seen ? frame.behind : frame.before).push_back(ids.item(k).id());
  }
  single.check(seen, "expected the text as Sequence 'A'");
  return frame;
}

/// Number of post-processors that add tokens to a text.
size_t count_templates(const JsonEntry& entry) {
  const std::string type = entry.text("type");
  if (type != "Sequence") return type == "ByteLevel" ? 0 : 1;
  size_t templates = 0;
  const JsonEntry steps = entry.list("processors");
  for (size_t i = 0; i < steps.size(); ++i) templates += count_templates(steps.item(i));
  return templates;
}

}  // namespace

Frame read_post_processor(const JsonEntry& entry) {
  const std::string type = entry.text("type");
  if (type == "ByteLevel") return {};  // moves offsets, not ids
  if (type == "TemplateProcessing") return read_template(entry);
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    return {{named_id(entry.at("cls"))}, {named_id(entry.at("sep"))}};
  }
  entry.check(type == "Sequence", "post_processor '{}' is not supported", shown(type));
  Frame all;
  size_t templates = 0;
  const JsonEntry steps = entry.list("processors");
  for (size_t i = 0; i < steps.size(); ++i) {
    const Frame frame = read_post_processor(steps.item(i));
    templates += count_templates(steps.item(i));
    // tokenizers does not add the tokens of a second one around those of the first.
    steps.item(i).check(templates <= 1, "a second template in a Sequence; at most one is supported");
    all.before.insert(all.before.begin(), frame.before.begin(), frame.before.end());
    all.behind.insert(all.behind.end(), frame.behind.begin(), frame.behind.end());
  }
  return all;
}

}  // namespace tutti
