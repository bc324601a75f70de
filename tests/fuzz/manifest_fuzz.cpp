#include <tutti/core/checkpoint/manifest.h>

#include "tests/fuzz/fuzz.h"

using namespace tutti;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Manifest manifest;
  if (!fuzz::accepted([&] { manifest = parse_manifest(fuzz::text(data, size), "fuzz.json"); })) return 0;
  const std::string text = to_json(manifest);
  fuzz::check(to_json(parse_manifest(text, "written.json")) == text, "a manifest reads back");
  return 0;
}
