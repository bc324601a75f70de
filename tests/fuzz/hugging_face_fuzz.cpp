#include <tutti/models/hugging_face/config.h>

#include "tests/fuzz/fuzz.h"

using namespace tutti;

// A config.json of transformers: what is accepted is a model that can be described, and whose export is the
// same.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  HuggingFaceConfig config;
  if (!fuzz::accepted([&] { config = parse_hugging_face_config(fuzz::text(data, size), "fuzz.json"); }))
    return 0;
  fuzz::check(gpt_differences(config.gpt, config.gpt).empty(), "a model is itself");
  std::string written;
  if (!fuzz::accepted([&] { written = hugging_face_config(config.gpt, {}); })) return 0;
  const HuggingFaceConfig again = parse_hugging_face_config(written, "written.json");
  fuzz::check(gpt_differences(config.gpt, again.gpt).empty(), "what is written reads back");
  return 0;
}
