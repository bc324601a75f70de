#include <tutti/core/checkpoint/model_files.h>

#include "tests/fuzz/fuzz.h"

using namespace tutti;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::map<std::string, std::string> files;
  if (!fuzz::accepted([&] { files = parse_model_index(fuzz::text(data, size), "fuzz.json"); })) return 0;
  for (const auto& [tensor, file] : files) {
    fuzz::check(file.find('/') == std::string::npos && file.front() != '.', "files stay in their directory");
  }
  fuzz::check(parse_model_index(model_index(files, 0), "written.json") == files, "an index reads back");
  return 0;
}
