#include "core/checkpoint/verify_weights.h"

#include "tests/fuzz/fuzz.h"

using namespace tutti;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::map<std::string, std::string> sums;
  if (!fuzz::accepted([&] { sums = parse_checksum_list(fuzz::text(data, size), "SHA256SUMS"); })) return 0;
  std::string written;
  for (const auto& [file, digest] : sums) {
    fuzz::check(digest.size() == 64 && digest.find_first_not_of("0123456789abcdef") == std::string::npos,
                "digests are digests");
    fuzz::check(!file.empty(), "files have names");
    written += digest + "  " + file + "\n";
  }
  fuzz::check(parse_checksum_list(written, "written") == sums, "a list reads back");
  return 0;
}
