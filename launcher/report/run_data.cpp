#include "launcher/report/run_data.h"

#include <tutti/core/error.h>
#include <tutti/core/io/file.h>
#include "core/io/json.h"

#include <nlohmann/json.hpp>

#include <fstream>
#include <limits>
#include <map>

namespace tutti {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int64_t kMostTextBytes = int64_t{16} << 20;

/// The text with invalid UTF-8 replaced by U+FFFD, by nlohmann-json.
std::string valid_text(const std::string& text) {
  return json::parse(json(text).dump(-1, ' ', false, json::error_handler_t::replace)).get<std::string>();
}

/// The text of any JSON value: strings unchanged, other values as JSON.
std::string text_of(const json& value) {
  return value.is_string() ? value.get<std::string>()
                           : value.dump(-1, ' ', false, json::error_handler_t::replace);
}

double number(const json& record, const char* key) {
  const auto found = record.find(key);
  return found != record.end() && found->is_number() ? found->get<double>()
                                                     : std::numeric_limits<double>::quiet_NaN();
}

double number_or_zero(const json& record, const char* key) {
  const double value = number(record, key);
  return value >= 0 ? value : 0;
}

StepRow step_row(const json& record, int64_t step) {
  return {.step = step,
          .loss = number(record, "loss"),
          .learning_rate = number(record, "learning_rate"),
          .grad_norm = number(record, "grad_norm"),
          .predictions = number_or_zero(record, "predictions"),
          .step_s = number_or_zero(record, "step_s"),
          .data_wait_s = number_or_zero(record, "data_wait_s"),
          .comm_wait_s = number_or_zero(record, "comm_wait_s"),
          .optimizer_s = number_or_zero(record, "optimizer_s"),
          .elapsed_s = number_or_zero(record, "elapsed_s")};
}

void read_metrics(const fs::path& path, RunData& run) {
  std::ifstream file(path, std::ios::binary);
  require(file.good(), "{}: cannot be read; is this the directory of a run?", path.string());
  int64_t line_number = 0;
  int64_t last_step = 0;
  double session_begin = 0;  // duration of earlier sessions
  for (std::string line; std::getline(file, line);) {
    ++line_number;
    const json record = json::parse(line, nullptr, false);
    if (record.is_discarded() && file.eof()) break;  // truncated
    require(record.is_object() && record.contains("step") && record["step"].is_number_integer(),
            "{}:{}: not a metrics record", path.string(), line_number);
    const auto step = record["step"].get<int64_t>();
    require(step >= last_step, "{}:{}: step {} after step {}", path.string(), line_number, step, last_step);
    last_step = step;
    const std::string kind = record.contains("kind") ? text_of(record["kind"]) : "";
    if (kind == "step") {
      StepRow row = step_row(record, step);
      const double before = run.steps.empty() ? 0 : run.steps.back().elapsed_s;
      if (row.elapsed_s + session_begin < before) session_begin = before;
      row.elapsed_s += session_begin;
      run.steps.push_back(row);
    } else if (kind == "evaluation") {
      run.evaluations.push_back({step, number(record, "loss"), number(record, "accuracy")});
    }
  }
}

std::string hosts_text(const json& ranks) {
  std::map<std::string, int> counts;
  for (const json& rank : ranks) {
    if (rank.is_object() && rank.contains("host")) ++counts[text_of(rank["host"])];
  }
  std::string text;
  for (const auto& [host, count] : counts) {
    text += fmt::format("{}{} ({} rank{})", text.empty() ? "" : ", ", host, count, count == 1 ? "" : "s");
  }
  return text;
}

std::string map_text(const json& object) {
  std::string text;
  for (const auto& [key, value] : object.items()) {
    text += fmt::format("{}{} {}", text.empty() ? "" : "\n", key, text_of(value));
  }
  return text;
}

std::vector<std::pair<std::string, std::string>> manifest_lines(const fs::path& path) {
  const json manifest = parse_strict_json(read_text_file(path, kMostTextBytes), path.string());
  if (!manifest.is_object() || !manifest.contains("sessions") || !manifest["sessions"].is_array() ||
      manifest["sessions"].empty() || !manifest["sessions"].back().is_object()) {
    fail("{}: not the manifest of a run", path.string());
  }
  const json& session = manifest["sessions"].back();
  std::vector<std::pair<std::string, std::string>> lines;
  const auto add = [&](const char* label, const json& object, const char* key) {
    if (object.is_object() && object.contains(key)) lines.emplace_back(label, text_of(object[key]));
  };
  lines.emplace_back("Sessions", std::to_string(manifest["sessions"].size()));
  add("Started", session, "started");
  if (session.contains("command_line") && session["command_line"].is_array()) {
    std::string command;
    for (const json& word : session["command_line"]) command += (command.empty() ? "" : " ") + text_of(word);
    lines.emplace_back("Command line", command);
  }
  add("Directory", session, "working_directory");
  if (session.contains("ranks") && session["ranks"].is_array())
    lines.emplace_back("Hosts", hosts_text(session["ranks"]));
  add("Seed", session, "seed");
  if (session.contains("tutti")) {
    add("Tutti", session["tutti"], "version");
    add("Built from", session["tutti"], "revision");
  }
  add("Working directory's revision", session, "working_directory_revision");
  if (session.contains("machine")) {
    add("Processor", session["machine"], "cpu");
    add("System", session["machine"], "system");
  }
  add("Instruction set", session, "instruction_set");
  for (const auto& [label, key] : {std::pair{"Libraries", "libraries"}, {"Environment", "environment"}}) {
    if (session.contains(key) && session[key].is_object()) lines.emplace_back(label, map_text(session[key]));
  }
  std::erase_if(lines, [](const auto& line) { return line.second.empty(); });
  return lines;
}

/// The same, but with the error if the manifest cannot be read: the plots do not depend on it.
std::vector<std::pair<std::string, std::string>> readable_manifest_lines(const fs::path& path) {
  try {
    return manifest_lines(path);
  } catch (const Error& error) {
    return {{"Manifest", valid_text(error.what())}};
  }
}

}  // namespace

RunData read_run(const fs::path& directory) {
  std::error_code none;
  require(fs::is_directory(directory, none), "{}: no such run directory", directory.string());
  RunData run;
  const fs::path full = fs::weakly_canonical(directory, none);
  run.name = valid_text((full.has_filename() ? full.filename() : full.parent_path().filename()).string());
  read_metrics(directory / "metrics.jsonl", run);
  require(!run.steps.empty(), "{}: contains no steps yet", (directory / "metrics.jsonl").string());
  if (fs::exists(directory / "summary.json", none)) {
    run.summary = read_summary(directory / "summary.json");
    run.item = run.summary->item;
  }
  if (fs::exists(directory / "run.yaml", none)) {
    run.run_file = valid_text(read_text_file(directory / "run.yaml", kMostTextBytes));
  }
  if (fs::exists(directory / "manifest.json", none))
    run.manifest = readable_manifest_lines(directory / "manifest.json");
  return run;
}

}  // namespace tutti
