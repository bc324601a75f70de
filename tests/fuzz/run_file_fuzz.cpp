#include <tutti/core/config/run_file.h>

#include "tests/fuzz/fuzz.h"

using namespace tutti;

namespace {

struct Section {
  double rate = 0.5;
  std::vector<double> betas = {0.9, 0.95};
  std::vector<int64_t> sizes;
  std::optional<double> clip;
  std::optional<DType> dtype;

  void describe(Fields& f) {
    f.value("rate", rate, "a number", positive());
    f.value("betas", betas, "two numbers", list_of(2, 0, 1));
    f.value("sizes", sizes, "a list", not_empty());
    f.value("clip", clip, "perhaps a number");
    f.value("dtype", dtype, "perhaps a dtype");
  }
};

/// One key of each type.
struct Settings {
  int64_t count = 3;
  bool flag = false;
  std::string name = "a";
  std::string kind = "x";
  DType dtype = DType::kFloat32;
  std::vector<std::string> names;
  std::optional<int64_t> maybe;
  std::optional<std::string> text;
  std::optional<bool> choice;
  Section section;

  void describe(Fields& f) {
    f.value("count", count, "a number", between(-10, 10));
    f.value("flag", flag, "a flag");
    f.value("name", name, "a text");
    f.choice("kind", kind, {"x", "y"}, "one of two");
    f.value("dtype", dtype, "a dtype");
    f.value("names", names, "texts");
    f.value("maybe", maybe, "perhaps a number");
    f.value("text", text, "perhaps a text");
    f.value("choice", choice, "perhaps a flag");
    f.section("section", section, "nested");
    f.check(count != 7, "count", "must not be 7");
  }
};

}  // namespace

/// A run file and, behind a zero byte, an override.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input = fuzz::text(data, size);
  const size_t zero = input.find('\0');
  std::vector<std::string> sets;
  if (zero != std::string_view::npos) sets.emplace_back(input.substr(zero + 1));
  Settings settings;
  settings.section.sizes = {1};
  if (!fuzz::accepted([&] { read_text(input.substr(0, zero), "fuzz.yaml", settings, sets); })) return 0;

  // An override may hold what is not UTF-8; all else can be written and reads back.
  std::string yaml;
  if (!fuzz::accepted([&] { yaml = to_yaml(settings); })) return 0;
  Settings again;
  read_text(yaml, "resolved.yaml", again);
  fuzz::check(to_yaml(again) == yaml, "a resolved run file reads back");
  return 0;
}
