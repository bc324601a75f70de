#include <tutti/core/data/tokenizer.h>

#include <memory>

#include "tests/fuzz/fuzz.h"

using namespace tutti;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = fuzz::text(data, size);
  std::unique_ptr<Tokenizer> tokenizer;
  if (!fuzz::accepted([&] { tokenizer = std::make_unique<Tokenizer>(Tokenizer::from_json(text, "fuzz")); })) {
    return 0;
  }
  // Whatever was accepted loses no byte and writes what reads back to the same.
  for (const AddedTokens added : {AddedTokens::kRecognise, AddedTokens::kAsText}) {
    const std::vector<int32_t> ids = tokenizer->encode(text, added);
    for (const int32_t id : ids) fuzz::check(id >= 0 && id < tokenizer->vocabulary(), "ids are tokens");
    fuzz::check(tokenizer->decode(ids) == text, "decoding undoes encoding");
  }
  const std::string written = tokenizer->to_json();
  fuzz::check(Tokenizer::from_json(written, "written").to_json() == written, "what is written reads back");
  return 0;
}
