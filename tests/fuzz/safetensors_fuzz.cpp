#include <tutti/core/checkpoint/safetensors.h>

#include "tests/fuzz/fuzz.h"

using namespace tutti;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  SafetensorsHeader header;
  if (!fuzz::accepted([&] { header = parse_safetensors(bytes, "fuzz"); })) return 0;
  // What was accepted describes the whole file, byte by byte.
  int64_t end = 0;
  for (const SafetensorsEntry& entry : header.entries) {
    fuzz::check(entry.begin == end && entry.end >= entry.begin, "spans follow each other");
    fuzz::check(entry.bytes() == numel(entry.shape) * safetensors_element_size(entry.dtype),
                "a span fits its shape");
    end = entry.end;
  }
  fuzz::check(header.data_begin + end == static_cast<int64_t>(size), "the spans cover the file");
  return 0;
}
