#include <tutti/core/data/token_shards.h>

#include "tests/fuzz/fuzz.h"

using namespace tutti;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  TokenIndex index;
  if (!fuzz::accepted([&] { index = TokenIndex::parse(fuzz::text(data, size), "fuzz"); })) return 0;
  for (const TokenIndex::Split& split : index.splits) {
    for (const TokenIndex::Shard& shard : split.shards) {
      fuzz::check(shard.tokens >= 0, "counts are counts");
      fuzz::check(shard.file.find('/') == std::string::npos && shard.file != "..",
                  "files lie beside the index");
    }
  }
  const std::string written = index.to_json();
  fuzz::check(TokenIndex::parse(written, "written").to_json() == written, "what is written reads back");
  return 0;
}
