#include "launcher/metrics/repair.h"

#include <tutti/core/error.h>
#include <tutti/core/io/file.h>

#include <nlohmann/json.hpp>

#include <cstdint>
#include <fstream>
#include <functional>

namespace tutti {
namespace {

namespace fs = std::filesystem;

bool is_record(const std::string& line) {
  const auto record = nlohmann::json::parse(line, nullptr, false);
  return record.is_object() && record.contains("step") && record["step"].is_number_integer();
}

}  // namespace

std::string repair_records(const fs::path& path) {
  std::error_code none;
  if (!fs::is_regular_file(path, none) || fs::file_size(path, none) == 0) return "";
  int64_t good = 0;
  int64_t bad = 0;
  int64_t first_bad = 0;
  const auto scan = [&](const std::function<void(const std::string&)>& keep) {
    std::ifstream file(path, std::ios::binary);
    require(file.good(), "{}: cannot be read", path.string());
    int64_t number = 0;
    for (std::string line; std::getline(file, line);) {
      ++number;
      if (file.eof()) break;  // no line end: incomplete, as after a kill
      if (is_record(line)) {
        ++good;
        if (keep) keep(line);
        continue;
      }
      if (bad++ == 0) first_bad = number;
    }
  };
  scan({});
  if (bad == 0) return "";
  if (good == 0) {
    const fs::path aside = path.string() + ".damaged";
    std::error_code error;
    fs::rename(path, aside, error);
    const std::string reason = error.message();
    require(!error, "{}: contains no records and cannot be renamed to {}: {}", path.string(), aside.string(),
            reason);
    return fmt::format("{}: contains no records; it is renamed to {}", path.string(), aside.string());
  }
  const int64_t taken_out = bad;
  replace_file(path, [&](OutputFile out) {
    scan([&](const std::string& line) { out.write(line + "\n"); });
    out.finish();
  });
  return fmt::format("{}: removed {} damaged line{}, first at line {}", path.string(), taken_out,
                     taken_out == 1 ? "" : "s", first_bad);
}

}  // namespace tutti
