#include "core/tuning/choices.h"

#include "tests/fuzz/fuzz.h"

using namespace tutti;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Choices choices;
  if (!fuzz::accepted([&] { choices = parse_choices(fuzz::text(data, size), "fuzz.json"); })) return 0;
  const std::string text = to_json(choices);
  fuzz::check(to_json(parse_choices(text, "written.json")) == text, "choices read back");
  for (const auto& [problem, words] : choices.words) {
    fuzz::check(!words.empty() && words.size() <= kMaxChoiceWords, "as many words as allowed");
  }
  return 0;
}
