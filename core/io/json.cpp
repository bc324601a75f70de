#include "core/io/json.h"
#include <tutti/core/error.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <unordered_set>
#include <vector>

namespace tutti {

using Json = nlohmann::json;

Json parse_strict_json(std::string_view text, const std::string& name, int depth) {
  require(text.find('\0') == std::string_view::npos, "{}: not valid JSON: contains a zero byte", name);
  std::vector<std::unordered_set<std::string>> open;
  const auto watch = [&](int level, Json::parse_event_t event, Json& parsed) {
    switch (event) {
      case Json::parse_event_t::object_start:
      case Json::parse_event_t::array_start:
        require(level < depth, "{}: JSON nested deeper than {} levels", name, depth);
        if (event == Json::parse_event_t::object_start) open.emplace_back();
        break;
      case Json::parse_event_t::object_end:
        open.pop_back();
        break;
      case Json::parse_event_t::key: {
        const auto& key = parsed.get_ref<const std::string&>();
        require(open.back().insert(key).second, "{}: duplicate key '{}' in a JSON object", name, key);
        break;
      }
      default:
        break;
    }
    return true;
  };
  try {
    return Json::parse(text, watch);
  } catch (const Json::parse_error& error) {
    const std::string_view before = text.substr(0, std::min(error.byte, text.size()));
    fail("{}:{}: not valid JSON", name, 1 + std::count(before.begin(), before.end(), '\n'));
  } catch (const Json::exception& error) {
    // A number beyond the range of double is not reported as a parse_error.
    fail("{}: not valid JSON: {}", name, error.what());
  }
}

bool is_plain_file_name(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name.front() != '.' &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
                  c == '_' || c == '-';
         });
}

}  // namespace tutti
