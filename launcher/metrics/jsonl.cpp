#include "launcher/metrics/jsonl.h"

#include <tutti/core/error.h>
#include "core/io/resolved_path.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <fstream>
#include <limits>
#include <utility>

namespace tutti {
namespace {

using Json = nlohmann::ordered_json;

/// The step of a line of a metrics file; empty if it is not a record.
std::optional<int64_t> step_of(const std::string& line) {
  const Json record = Json::parse(line, nullptr, false);
  if (!record.is_object() || !record.contains("step") || !record["step"].is_number_integer())
    return std::nullopt;
  return record["step"].get<int64_t>();
}

std::filesystem::path cut(const std::filesystem::path& path, int64_t step, const RecordFile::Tell& notify) {
  try {
    drop_records_after(path, step);
  } catch (const Error& error) {
    if (!notify) throw;
    notify(fmt::format("{}; records are appended nevertheless", error.what()));
  }
  return path;
}

}  // namespace

void drop_records_after(const std::filesystem::path& named, int64_t step) {
  const ResolvedPath resolved = resolve_path(named);  // links of other accounts are not followed
  if (!resolved.status || !S_ISREG(resolved.status->st_mode)) return;
  const std::filesystem::path& path = resolved.path;
  std::ifstream file(path, std::ios::binary);
  require(file.good(), "{}: cannot be read", path.string());
  uintmax_t keep = 0;
  int64_t number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    if (file.eof()) break;  // no line end: incomplete
    const std::optional<int64_t> at = step_of(line);
    require(at.has_value(), "{}:{}: not a metrics record; records are not appended to a foreign file",
            path.string(), number);
    if (*at > step) break;
    keep += line.size() + 1;
  }
  file.close();
  std::error_code error;
  std::filesystem::resize_file(path, keep, error);
  require(!error, "{}: cannot truncate: {}", path.string(), error.message());
}

RecordedStep recorded_step(const std::filesystem::path& path, int64_t step) {
  RecordedStep recorded;
  std::ifstream file(path, std::ios::binary);
  const std::string mark = fmt::format("\"step\":{},", step);
  const auto number = [](const Json& record, const char* key) {
    const auto found = record.find(key);
    return found != record.end() && found->is_number() ? found->get<double>()
                                                       : std::numeric_limits<double>::quiet_NaN();
  };
  for (std::string line; std::getline(file, line);) {
    if (file.eof() || line.find(mark) == std::string::npos || step_of(line) != step) continue;
    const Json record = Json::parse(line, nullptr, false);
    const auto kind = record.find("kind");
    if (kind == record.end()) continue;
    if (*kind == "step") recorded.loss = number(record, "loss");
    if (*kind != "evaluation") continue;
    recorded.evaluation = EvaluationReport{.step = step,
                                           .loss = number(record, "loss"),
                                           .accuracy = number(record, "accuracy"),
                                           .wall_s = number(record, "wall_s")};
  }
  return recorded;
}

std::optional<int64_t> last_recorded_checkpoint(const std::filesystem::path& path) {
  std::optional<int64_t> last;
  std::ifstream file(path, std::ios::binary);
  for (std::string line; std::getline(file, line);) {
    if (file.eof() || line.find("\"checkpoint\"") == std::string::npos) continue;
    const Json record = Json::parse(line, nullptr, false);
    if (!record.is_object() || record.value("kind", Json()) != "checkpoint") continue;
    const Json error = record.value("error", Json());
    if (error.is_string() && !error.get_ref<const std::string&>().empty()) continue;
    if (const auto step = step_of(line)) last = std::max(last.value_or(*step), *step);
  }
  return last;
}

JsonlWriter::JsonlWriter(const std::filesystem::path& path, int64_t resumed_step, RecordFile::Tell notify)
    : file_(cut(path, resumed_step, notify), notify) {}

void JsonlWriter::append(const Json& record) {
  // A path may contain bytes that are not valid UTF-8; the record is written nevertheless.
  file_.append(record.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

void JsonlWriter::on_step(const StepReport& report) {
  append({{"kind", "step"},
          {"step", report.step},
          {"total_steps", report.total_steps},
          {"loss", report.loss},
          {"learning_rate", report.learning_rate},
          {"grad_norm", report.grad_norm},
          {"skipped", report.skipped},
          {"samples", report.samples},
          {"predictions", report.predictions},
          {"epoch", report.epoch},
          {"step_s", report.step_s},
          {"data_wait_s", report.data_wait_s},
          {"comm_wait_s", report.comm_wait_s},
          {"optimizer_s", report.optimizer_s},
          {"elapsed_s", report.elapsed_s},
          {"memory_bytes", report.memory_bytes}});
}

void JsonlWriter::on_evaluation(const EvaluationReport& report) {
  append({{"kind", "evaluation"},
          {"step", report.step},
          {"loss", report.loss},
          {"accuracy", report.accuracy},
          {"wall_s", report.wall_s}});
  file_.flush();
}

void JsonlWriter::before_checkpoint(int64_t) {
  file_.sync();
}

void JsonlWriter::on_checkpoint(const CheckpointReport& report) {
  Json record{
      {"kind", "checkpoint"}, {"step", report.step}, {"path", report.path}, {"wall_s", report.wall_s}};
  if (!report.error.empty()) record["error"] = report.error;
  append(record);
  file_.sync();  // a resumed run depends on it
}

}  // namespace tutti
