#include <tutti/core/data/skip_list.h>

#include "tests/fuzz/fuzz.h"

using namespace tutti;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  SkipList list;
  if (!fuzz::accepted([&] { list = SkipList::parse(fuzz::text(data, size), "fuzz"); })) return 0;
  for (const SkipList::Entry& entry : list.entries) fuzz::check(!entry.name.empty(), "names are not empty");
  const SkipList back = SkipList::parse(list.to_text(), "written");
  fuzz::check(back.sha256() == list.sha256(), "what is written reads back");
  return 0;
}
