#include <tutti/core/data/idx.h>

#include "tests/fuzz/fuzz.h"

using namespace tutti;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  for (const int dims : {1, 3}) {
    IdxArray array;
    if (!fuzz::accepted([&] { array = parse_idx(std::as_bytes(std::span(data, size)), dims, "fuzz"); }))
      continue;
    fuzz::check(array.shape.size() == static_cast<size_t>(dims), "as many sizes as asked for");
    fuzz::check(static_cast<int64_t>(array.values.size()) == numel(array.shape),
                "as many values as it tells");
  }
  return 0;
}
