#include "launcher/launch/record.h"

#include "launcher/overwrite.h"

#include <tutti/core/error.h>
#include <tutti/core/io/file.h>

#include <fmt/chrono.h>
#include <nlohmann/json.hpp>

#include <chrono>
#include <ostream>

namespace tutti {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostBytes = int64_t{16} << 20;
constexpr std::string_view kFormat = "tutti-launch";

std::string utc_now() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(std::chrono::system_clock::now())));
}

nlohmann::ordered_json read(const fs::path& path) {
  const std::string text = read_text_file(path, kMostBytes);
  nlohmann::ordered_json json = nlohmann::ordered_json::parse(text, nullptr, false);
  require(json.is_object() && json.value("format", nlohmann::ordered_json()) == kFormat,
          "{}: not the record of a launch", path.string());
  return json;
}

std::string text_of(const nlohmann::ordered_json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_string() ? found->get<std::string>() : "";
}

/// Identifies the submission of this launch; empty if it was not submitted.
std::string submission_of(const LaunchSpec& spec) {
  try {
    return text_of(read(LaunchRecord::path_in(spec.submission_directory)), "submission");
  } catch (const Error&) {
    return "";
  }
}

}  // namespace

struct LaunchRecord::Json {
  nlohmann::ordered_json value;
};

fs::path LaunchRecord::path_in(const fs::path& run_directory) {
  return run_directory / "launch.json";
}

LaunchRecord::Job LaunchRecord::read_job(const fs::path& run_directory) {
  const nlohmann::ordered_json json = read(path_in(run_directory));
  Job job{.scheduler = text_of(json, "scheduler"),
          .job_id = text_of(json, "job_id"),
          .log = text_of(json, "log"),
          .state = text_of(json, "state"),
          .host = text_of(json, "host")};
  if (const auto found = json.find("supervisor"); found != json.end() && found->is_number_integer()) {
    job.supervisor = found->get<int64_t>();
  }
  return job;
}

void LaunchRecord::require_own_or_none(const fs::path& run_directory) {
  const fs::path path = path_in(run_directory);
  require_replaceable(path, [&] {
    try {
      (void)read(path);
      return true;
    } catch (const Error&) {
      return false;
    }
  });
}

bool LaunchRecord::was_started(const LaunchSpec& spec) {
  try {
    const nlohmann::ordered_json json = read(path_in(spec.run_directory));
    const auto attempts = json.find("attempts");
    if (attempts == json.end() || !attempts->is_array() || attempts->empty()) return false;
    // A submission rewrites the record of its own directory; those of a sweep's combinations name theirs.
    return spec.run_directory == spec.submission_directory ||
           text_of(json, "submission") == submission_of(spec);
  } catch (const Error&) {
    return false;  // no record, or none that can be read
  }
}

LaunchRecord::LaunchRecord(const LaunchSpec& spec, const Job& job, std::ostream& err)
    : path_(path_in(spec.run_directory)), json_(std::make_unique<Json>()), err_(err) {
  std::error_code error;
  fs::create_directories(spec.run_directory, error);
  require(!error, "{}: cannot be created: {}", spec.run_directory, error.message());
  nlohmann::ordered_json attempts = nlohmann::ordered_json::array();
  std::string log = job.log;
  std::string scheduler = job.scheduler;
  std::string job_id = job.job_id;
  const bool submission = job.state == "submitted";
  if (!submission && fs::exists(path_, error)) {
    try {
      const nlohmann::ordered_json before = read(path_);
      // The pods of a job do not have the id that it has where it was submitted.
      const bool unnamed = spec.batch && job_id.empty();
      if (unnamed || (!job_id.empty() && text_of(before, "job_id") == job_id)) {
        if (unnamed && !text_of(before, "job_id").empty()) {
          scheduler = text_of(before, "scheduler");
          job_id = text_of(before, "job_id");
        }
        if (log.empty()) log = text_of(before, "log");
        if (before.contains("attempts") && before["attempts"].is_array()) attempts = before["attempts"];
      }
    } catch (const Error&) {
      // A record that cannot be read has nothing to keep.
    }
  }
  json_->value = {{"format", kFormat},
                  {"state", job.state},
                  {"scheduler", scheduler},
                  {"job_id", job_id},
                  {"submission", submission ? fmt::format("{} {}", job_id, utc_now()) : submission_of(spec)},
                  {"log", log},
                  {"host", job.host},
                  {"supervisor", job.supervisor},
                  {"working_directory", spec.working_directory},
                  {"command", spec.command},
                  {"attempts", std::move(attempts)}};
  write();
}

LaunchRecord::~LaunchRecord() = default;

void LaunchRecord::begin_attempt(const std::vector<std::string>& argv, const std::vector<Host>& hosts) {
  nlohmann::ordered_json places = nlohmann::ordered_json::array();
  for (const Host& host : hosts) places.push_back({{"host", host.name}, {"ranks", host.slots}});
  json_->value["state"] = "running";
  json_->value["attempts"].push_back({{"started", utc_now()}, {"argv", argv}, {"hosts", std::move(places)}});
  write_if_possible();
}

void LaunchRecord::end_attempt(const ExitStatus& exit_status) {
  nlohmann::ordered_json& attempt = json_->value["attempts"].back();
  attempt["ended"] = utc_now();
  attempt["exit_code"] = exit_status.exit_code;
  if (exit_status.signal != 0) attempt["signal"] = exit_status.signal;
  attempt["reason"] = name(exit_status.reason);
  attempt["text"] = exit_status.text;
  if (!exit_status.hosts.empty()) attempt["blamed_hosts"] = exit_status.hosts;
  write_if_possible();
}

void LaunchRecord::end(const ExitStatus& exit_status) {
  json_->value["state"] = "ended";
  json_->value["exit_code"] = exit_status.exit_code;
  json_->value["reason"] = name(exit_status.reason);
  if (json_->value["attempts"].empty()) json_->value["text"] = exit_status.text;
  write_if_possible();
}

void LaunchRecord::mark_requeued(const std::string& job_id) {
  if (!job_id.empty()) {
    json_->value["job_id"] = job_id;
    json_->value["log"] = (path_.parent_path() / fmt::format("launch-{}.log", job_id)).string();
  }
  json_->value["state"] = "submitted";
  write_if_possible();
}

void LaunchRecord::write_if_possible() const try { write(); } catch (const Error& problem) {
  err_ << fmt::format("tutti: {}; the launch continues without its record\n", problem.what()) << std::flush;
}

void LaunchRecord::write() const {
  // Arguments need not be UTF-8.
  const auto text = [&](int indent) {
    return json_->value.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  };
  // On a full disk, a shorter text may fit in place of the record.
  write_or_overwrite(path_, text(2), text(-1));
}

}  // namespace tutti
