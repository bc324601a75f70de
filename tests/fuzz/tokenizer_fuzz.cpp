#include <tutti/core/data/tokenizer.h>
#include <tutti/core/error.h>
#include "core/config/utf8.h"

#include <memory>

#include "tests/fuzz/fuzz.h"

using namespace tutti;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = fuzz::text(data, size);
  std::unique_ptr<Tokenizer> tokenizer;
  if (!fuzz::accepted([&] { tokenizer = std::make_unique<Tokenizer>(Tokenizer::from_json(text, "fuzz")); })) {
    return 0;
  }
  fuzz::check(tokenizer->to_json() == text, "what was read is kept");
  for (const AddedTokens added : {AddedTokens::kRecognise, AddedTokens::kAsText}) {
    std::vector<int32_t> ids;
    // Unknown characters and expensive expressions may be refused.
    if (!fuzz::accepted([&] { ids = tokenizer->encode(text, added); })) continue;
    for (const int32_t id : ids) fuzz::check(id >= 0 && id < tokenizer->vocabulary(), "ids are tokens");
    std::string back;
    if (!fuzz::accepted([&] { back = tokenizer->decode(ids); })) continue;
    if (tokenizer->lossless()) fuzz::check(back == text, "decoding undoes encoding");
  }
  std::vector<int32_t> whole, parts;
  TokenEncoder encoder(*tokenizer);
  if (!fuzz::accepted([&] { encoder.encode(text, whole); })) return 0;
  for (const TextSection& section : tokenizer->sections(text, 16)) {
    if (!fuzz::accepted([&] { encoder.encode(section, parts); })) return 0;
  }
  fuzz::check(whole == parts, "ids of the sections are those of the whole");
  return 0;
}
