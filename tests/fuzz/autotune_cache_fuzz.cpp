#include "core/tuning/autotune_cache.h"

#include "tests/fuzz/fuzz.h"

using namespace tutti;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  AutotuneResults results;
  if (!fuzz::accepted([&] { results = parse_autotune_results(fuzz::text(data, size), "fuzz.json"); }))
    return 0;
  const std::string text = to_json(results);
  fuzz::check(to_json(parse_autotune_results(text, "written.json")) == text, "results read back");
  for (const auto& [problem, words] : results.words) {
    fuzz::check(!words.empty() && words.size() <= kMaxAutotuneWords, "as many words as allowed");
  }
  return 0;
}
