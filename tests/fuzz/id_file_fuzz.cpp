#include "core/data/prepare/id_file.h"

#include "tests/fuzz/fuzz.h"

#include <algorithm>
#include <vector>

using namespace tutti;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  for (const int64_t vocabulary : {300, 100000}) {
    for (const IdType type : {IdType::kAuto, IdType::kInt64}) {
      std::vector<int32_t> ids;
      if (!fuzz::accepted([&] {
            const IdFile file = IdFile::parse(bytes, "fuzz", type, vocabulary);
            fuzz::check(file.size() > 0 && static_cast<size_t>(file.size()) <= size,
                        "no more ids than bytes");
            ids.resize(static_cast<size_t>(file.size()));
            file.read(0, ids);
          })) {
        continue;
      }
      fuzz::check(std::all_of(ids.begin(), ids.end(), [&](int32_t id) { return id >= 0 && id < vocabulary; }),
                  "ids are within the vocabulary");
    }
  }
  return 0;
}
