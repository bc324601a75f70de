#include "launcher/preflight/report.h"

#include "launcher/preflight/json.h"

#include <tutti/core/error.h>

namespace tutti {

std::string to_text(const RankReport& report) {
  return nlohmann::json(report).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

RankReport report_from_text(std::string_view text) {
  try {
    return nlohmann::json::parse(text).get<RankReport>();
  } catch (const nlohmann::json::exception& problem) {
    fail("not a rank's preflight report: {}", problem.what());
  }
}

}  // namespace tutti
