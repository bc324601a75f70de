#include <tutti/core/data/token_shards.h>

#include <memory>

#include "tests/fuzz/fuzz.h"

using namespace tutti;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::unique_ptr<TokenShard> shard;
  if (!fuzz::accepted([&] {
        shard = std::make_unique<TokenShard>(TokenShard::parse(std::as_bytes(std::span(data, size)), "fuzz"));
      })) {
    return 0;
  }
  fuzz::check(shard->size() >= 0 && 2 * shard->size() <= static_cast<int64_t>(size),
              "tokens lie in the file");
  std::vector<int32_t> ids(static_cast<size_t>(shard->size()));
  if (fuzz::accepted([&] { shard->read(0, ids); })) {
    for (const int32_t id : ids) fuzz::check(id >= 0 && id < shard->source().vocabulary, "ids are tokens");
  }
  return 0;
}
