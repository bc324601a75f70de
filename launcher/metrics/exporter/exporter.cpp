#include "launcher/metrics/exporter/exporter.h"

#include <tutti/core/error.h>
#include <tutti/core/io/file.h>
#include <tutti/core/io/sha256.h>
#include "core/io/resolved_path.h"
#include "core/system_check.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <utility>

namespace tutti {
namespace {

constexpr int64_t kHighestPort = 65535;
constexpr size_t kShortestToken = 16;
constexpr size_t kLongestToken = 4096;
constexpr const char* kTokenVariable = "TUTTI_METRICS_TOKEN";
constexpr int64_t kMostTargetsBytes = int64_t{16} << 20;
constexpr size_t kLongestTargetsName = 200;
constexpr size_t kHashDigits = 8;
// Prometheus drops labels that begin with two underscores once it has relabelled a target
// (https://prometheus.io/docs/prometheus/latest/configuration/configuration/#relabel_config).
constexpr const char* kOwnerLabel = "__tutti_run_id";

double unix_time_s() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// The text of a file that only its owner can read. The check and the read use one descriptor.
std::string private_text(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  require_system(file >= 0, "{}: cannot be read", path);
  const std::unique_ptr<const int, void (*)(const int*)> closer(&file, [](const int* f) { (void)close(*f); });
  struct stat status {};
  require_system(fstat(file, &status) == 0, "{}", path);
  require(S_ISREG(status.st_mode), "{}: not a file", path);
  require((status.st_mode & (S_IRWXG | S_IRWXO)) == 0,
          "{}: a secret that other users can read or write; run chmod 600 {}", path, path);
  require(status.st_uid == geteuid(), "{}: a secret that belongs to another user", path);
  std::string text;
  std::array<char, kLongestToken + 2> buffer{};
  while (text.size() <= kLongestToken) {
    const ssize_t n = read(file, buffer.data(), buffer.size());
    require_system(n >= 0 || errno == EINTR, "{}", path);
    if (n == 0) break;
    if (n > 0) text.append(buffer.data(), static_cast<size_t>(n));
  }
  return text;
}

/// The index of this rank among those of its host.
int64_t local_rank(const std::vector<std::string>& hosts, int rank) {
  return std::count(hosts.begin(), hosts.begin() + rank, hosts.at(static_cast<size_t>(rank)));
}

/// A rank without a token would serve all clients. The elements of `tokens` are empty for ranks
/// without a token.
void require_same_protection(const std::vector<std::string>& hosts, const std::vector<std::string>& tokens) {
  const auto open = std::find(tokens.begin(), tokens.end(), "");
  const auto closed =
      std::find_if(tokens.begin(), tokens.end(), [](const auto& token) { return !token.empty(); });
  if (open == tokens.end() || closed == tokens.end()) return;
  const auto rank = [&](auto place) { return static_cast<size_t>(place - tokens.begin()); };
  fail(
      "metrics: rank {} on {} has a token and rank {} on {} has none: pass {} to all ranks (mpirun -x), or "
      "set metrics.token_file to a file that all hosts share",
      rank(closed), hosts[rank(closed)], rank(open), hosts[rank(open)], kTokenVariable);
}

/// The address at which a listener is reachable.
std::string reachable(const std::string& address, const std::string& host, uint16_t port) {
  if (address == "0.0.0.0" || address == "::") return fmt::format("{}:{}", host, port);
  return address.find(':') == std::string::npos ? fmt::format("{}:{}", address, port)
                                                : fmt::format("[{}]:{}", address, port);
}

/// Whether a text is the output of targets_json() for this run.
bool is_own_targets(const std::string& text, const std::string& run_id) {
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_array() || json.empty() || !json.front().is_object()) return false;
  const nlohmann::json labels = json.front().value("labels", nlohmann::json());
  return labels.is_object() && labels.value(kOwnerLabel, nlohmann::json()) == run_id;
}

/// Throws Error if `path` exists and was not written by the run.
void require_own_or_none(const std::filesystem::path& path, const std::string& run_id) {
  struct stat found {};
  if (lstat(path.c_str(), &found) != 0) return;  // does not exist, or the write reports the error
  require(S_ISREG(found.st_mode), "{}: is {}, not written by this run", path.string(), kind_of(found));
  require(is_own_targets(read_text_file(path, kMostTargetsBytes), run_id),
          "{}: exists, and was not written by this run", path.string());
}

}  // namespace

void MetricsSection::describe(Fields& f) {
  f.value("port", port, "rank i of a host serves metrics to Prometheus on port + i; 0: none does",
          between(0, kHighestPort));
  f.value("address", address, "IP address to listen on; 0.0.0.0: all addresses, reachable from other hosts");
  f.path("token_file", token_file,
         "file (mode 0600) with the token that clients must send; empty: $TUTTI_METRICS_TOKEN, or none");
  f.path("targets_dir", targets_dir,
         "folder where Prometheus finds the runs (file_sd_configs); empty: metrics-targets.json in run.dir");
  f.check(is_ip_address(address), "address", "must be an IPv4 or IPv6 address");
}

std::string metrics_token(const std::string& file) {
  const char* const variable = std::getenv(kTokenVariable);
  const std::string origin = file.empty() ? kTokenVariable : file;
  std::string token = file.empty() ? (variable == nullptr ? "" : variable) : private_text(file);
  while (token.ends_with('\n') || token.ends_with('\r')) token.pop_back();
  if (file.empty() && variable == nullptr) return "";
  const bool plain = std::all_of(token.begin(), token.end(), [](char c) { return c > ' ' && c < 0x7F; });
  require(plain && token.size() >= kShortestToken && token.size() <= kLongestToken,
          "{}: expected a token of {} to {} characters without spaces, such as `openssl rand -hex 32` "
          "prints; {}",
          origin, kShortestToken, kLongestToken, token.empty() ? "it is empty" : "this one is not valid");
  return token;
}

MetricsExporter::MetricsExporter(const MetricsSection& section, RankMetrics who, Peers& peers)
    : metrics_(std::move(who)) {
  check_settings(section, "metrics");
  metrics_.rank = peers.rank();
  metrics_.started_at_s = unix_time_s();
  const std::vector<std::string> hosts = peers.all_gather(metrics_.host);
  HttpServer::Options options{.address = section.address};
  peers.agree([&] { options.token = metrics_token(section.token_file); });
  require_same_protection(hosts, peers.all_gather(options.token.empty() ? "" : "token"));
  const int64_t port = section.port + local_rank(hosts, peers.rank());
  nlohmann::json mine = {{"problem", ""}, {"target", ""}};
  try {
    require(port <= kHighestPort, "port {} does not exist", port);
    options.port = static_cast<uint16_t>(port);
    server_.emplace(options, [this](const HttpServer::Request& request) { return answer(request); });
    mine["target"] = reachable(section.address, metrics_.host, server_->port());
  } catch (const Error& problem) {
    mine["problem"] = problem.what();
  }
  const std::vector<std::string> all =
      peers.all_gather(mine.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  for (size_t r = 0; r < all.size(); ++r) {
    const nlohmann::json theirs = nlohmann::json::parse(all[r]);
    const auto problem = theirs["problem"].get<std::string>();
    if (problem.empty()) {
      targets_.push_back(theirs["target"].get<std::string>());
    } else {
      notices_.push_back(fmt::format(
          "no metrics of rank {} on {}: {}. Training continues; for the next run set another metrics.port "
          "or metrics.address",
          r, hosts[r], problem));
    }
  }
  if (targets_.empty()) return;
  notices_.push_back(fmt::format("metrics at http://{}/metrics{}{}", targets_.front(),
                                 targets_.size() > 1 ? fmt::format(" to {}", targets_.back()) : "",
                                 options.token.empty() && !is_loopback_address(section.address)
                                     ? ", to all clients that reach this host (metrics.token_file limits it)"
                                     : ""));
}

MetricsExporter::~MetricsExporter() = default;

void MetricsExporter::on_step(const StepReport& report) {
  const double now_s = unix_time_s();
  const std::scoped_lock lock(mutex_);
  RankMetrics& m = metrics_;
  m.last = report;
  m.last_step_at_s = now_s;
  ++m.steps;
  if (report.skipped) ++m.skipped_steps;
  m.samples += report.samples;
  m.predictions += report.predictions;
  m.step_s += report.step_s;
  m.data_wait_s += report.data_wait_s;
  m.comm_wait_s += report.comm_wait_s;
  m.optimizer_s += report.optimizer_s;
}

void MetricsExporter::on_evaluation(const EvaluationReport& report) {
  const std::scoped_lock lock(mutex_);
  metrics_.evaluation = report;
}

void MetricsExporter::on_checkpoint(const CheckpointReport& report) {
  const double now_s = unix_time_s();
  const std::scoped_lock lock(mutex_);
  RankMetrics& m = metrics_;
  m.checkpoint_s += report.wall_s;
  if (!report.error.empty()) {
    ++m.failed_checkpoints;
    return;
  }
  ++m.checkpoints;
  m.checkpoint_step = report.step;
  m.checkpoint_at_s = now_s;
}

HttpServer::Answer MetricsExporter::answer(const HttpServer::Request& request) const {
  if (request.path != "/metrics") return {.status = 404, .body = "metrics are at /metrics\n"};
  RankMetrics now;
  {
    const std::scoped_lock lock(mutex_);
    now = metrics_;
  }
  now.process = process_use();
  const MetricsFormat format = accepted_format(request.accept);
  return {.content_type = std::string(content_type(format)), .body = metrics_text(now, format)};
}

std::string targets_json(const std::vector<std::string>& targets, const std::string& run,
                         const std::string& run_id) {
  nlohmann::ordered_json group;
  group["targets"] = targets;
  group["labels"]["run"] = run;
  group["labels"][kOwnerLabel] = run_id;
  const nlohmann::ordered_json json = nlohmann::ordered_json::array({group});
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

std::filesystem::path targets_path(const std::string& targets_dir,
                                   const std::filesystem::path& run_directory) {
  if (targets_dir.empty()) return run_directory / "metrics-targets.json";
  std::string name = std::filesystem::absolute(run_directory).lexically_normal().relative_path().string();
  while (name.ends_with('/')) name.pop_back();
  const std::string hash = sha256(name).substr(0, kHashDigits);
  // Prometheus reads files by the pattern *.json.
  for (char& c : name) {
    if (c == '/' || c == '*') c = '-';
  }
  if (name.size() > kLongestTargetsName) name.erase(0, name.size() - kLongestTargetsName);
  return std::filesystem::path(targets_dir) / fmt::format("{}-{}.json", name, hash);
}

TargetsFile::TargetsFile(std::filesystem::path path, std::string text, const std::string& run_id,
                         std::function<void(const std::string& text)> warn)
    : path_(std::move(path)), text_(std::move(text)), warn_(std::move(warn)) {
  std::error_code error;
  std::filesystem::create_directories(path_.parent_path(), error);
  require(!error, "{}: cannot be created: {}", path_.parent_path().string(), error.message());
  require_own_or_none(path_, run_id);
  write_file_atomically(path_, text_);
}

TargetsFile::~TargetsFile() {
  std::error_code ignored;
  try {
    if (!std::filesystem::exists(std::filesystem::symlink_status(path_, ignored))) return;
    if (std::filesystem::is_regular_file(std::filesystem::symlink_status(path_, ignored)) &&
        read_text_file(path_, kMostTargetsBytes) == text_) {
      std::filesystem::remove(path_, ignored);
    } else if (warn_) {
      warn_(fmt::format("{}: was changed since this run wrote it; it is not removed", path_.string()));
    }
  } catch (const std::exception&) {
    // A file that cannot be read is not removed.
  }
}

}  // namespace tutti
