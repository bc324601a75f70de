#include "launcher/info/text.h"
#include "launcher/preflight/json.h"
#include "launcher/preflight/preflight.h"

#include <tutti/core/error.h>

#include <fmt/ranges.h>

#include <algorithm>
#include <ostream>

namespace tutti {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kFormat = "tutti-preflight";

std::string rate(double bytes_per_s) {
  return bytes_per_s > 0 ? fmt::format("{:.2f}", bytes_per_s / 1e9) : "-";
}

std::vector<std::string> row(const HostSummary& h) {
  return {h.host,
          std::to_string(h.ranks),
          fmt::format("{:.1f}", h.gemm_flops_per_s / 1e9),
          fmt::format("{:.1f}", h.memory_bytes_per_s / 1e9),
          bytes_text(h.available_bytes),
          bytes_text(h.shm_bytes),
          fmt::format("{:.0f}", h.disk_write_bytes_per_s / 1e6),
          fmt::format("{:.0f}", h.disk_read_bytes_per_s / 1e6),
          bytes_text(h.disk_free_bytes),
          rate(h.network_bytes_per_s),
          h.network_latency_s > 0 ? fmt::format("{:.1f}", 1e6 * h.network_latency_s) : "-",
          fmt::format("{:+.1f}", 1e3 * h.clock_offset_s),
          std::to_string(h.gpus)};
}

Json finding_json(const Finding& finding) {
  return {{"severity", name(finding.severity)},
          {"host", finding.host},
          {"check", finding.check},
          {"text", finding.text}};
}

Json host_json(const HostSummary& h) {
  return {{"host", h.host},
          {"ranks", h.ranks},
          {"gemm_flops_per_s", h.gemm_flops_per_s},
          {"memory_bytes_per_s", h.memory_bytes_per_s},
          {"cpu_quota", h.cpu_quota},
          {"network_bytes_per_s", h.network_bytes_per_s},
          {"network_latency_s", h.network_latency_s},
          {"clock_offset_s", h.clock_offset_s},
          {"available_bytes", h.available_bytes},
          {"shm_bytes", h.shm_bytes},
          {"huge_page_bytes", h.huge_page_bytes},
          {"disk_free_bytes", h.disk_free_bytes},
          {"disk_write_bytes_per_s", h.disk_write_bytes_per_s},
          {"disk_read_bytes_per_s", h.disk_read_bytes_per_s},
          {"gpus", h.gpus}};
}

Finding::Severity severity_named(const std::string& text) {
  for (const auto severity :
       {Finding::Severity::kWarning, Finding::Severity::kSlow, Finding::Severity::kBad}) {
    if (name(severity) == text) return severity;
  }
  return Finding::Severity::kFatal;
}

}  // namespace

void print_table(const PreflightResult& result, std::ostream& out) {
  std::vector<std::vector<std::string>> rows{{"", "", "GEMM", "memory", "memory", "", "disk MB/s",
                                              "disk MB/s", "disk", "network", "network", "clock", ""},
                                             {"host", "ranks", "GFLOP/s", "GB/s", "free", "/dev/shm", "write",
                                              "read", "free", "GB/s", "us", "ms", "GPUs"}};
  for (const HostSummary& host : result.verdict.hosts) rows.push_back(row(host));
  std::vector<size_t> widths(rows.front().size(), 0);
  for (const auto& cells : rows) {
    for (size_t i = 0; i < cells.size(); ++i) widths[i] = std::max(widths[i], cells[i].size());
  }
  for (const auto& cells : rows) {
    std::string line = fmt::format("{:<{}}", cells[0], widths[0]);
    for (size_t i = 1; i < cells.size(); ++i) line += fmt::format("  {:>{}}", cells[i], widths[i]);
    out << line << '\n';
  }
  for (const Finding& finding : result.verdict.findings) {
    out << fmt::format("{}: {}{}: {}\n", name(finding.severity),
                       finding.host.empty() ? "" : finding.host + ": ", finding.check, finding.text);
  }
  const auto hosts = result.verdict.hosts.size();
  out << fmt::format("{} host{}, {} rank{}, {:.1f} s: ", hosts, hosts == 1 ? "" : "s", result.reports.size(),
                     result.reports.size() == 1 ? "" : "s", result.wall_s);
  const bool slow = std::any_of(result.verdict.findings.begin(), result.verdict.findings.end(),
                                [](const Finding& f) { return f.severity == Finding::Severity::kSlow; });
  if (result.verdict.good()) {
    out << (slow ? "every host is slow in some measure, none can be excluded\n" : "good\n");
  } else if (result.verdict.fatal()) {
    out << "training is not possible\n";
  } else {
    out << fmt::format("exclude {}\n", fmt::join(result.verdict.exclude, ", "));
  }
}

std::string to_json(const PreflightResult& result) {
  Json findings = Json::array();
  for (const Finding& finding : result.verdict.findings) findings.push_back(finding_json(finding));
  Json hosts = Json::array();
  for (const HostSummary& host : result.verdict.hosts) hosts.push_back(host_json(host));
  const Json json = {{"format", kFormat},
                     {"wall_s", result.wall_s},
                     {"good", result.verdict.good()},
                     {"exclude", result.verdict.exclude},
                     {"findings", std::move(findings)},
                     {"hosts", std::move(hosts)},
                     {"ranks", nlohmann::json(result.reports)}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

PreflightAnswer read_preflight_json(std::string_view output) {
  // mpirun and scripts that call it may print other lines.
  const size_t begin = output.find(fmt::format("{{\n  \"format\": \"{}\"", kFormat));
  const size_t end = begin == std::string_view::npos ? begin : output.find("\n}\n", begin);
  require(end != std::string_view::npos, "preflight printed no result");
  const Json json = Json::parse(output.substr(begin, end + 2 - begin), nullptr, false);
  require(json.is_object() && json.contains("findings"), "preflight printed a result that cannot be read");
  PreflightAnswer answer;
  for (const Json& finding : json["findings"]) {
    answer.findings.push_back({.severity = severity_named(finding.value("severity", "")),
                               .host = finding.value("host", ""),
                               .check = finding.value("check", ""),
                               .text = finding.value("text", "")});
    answer.fatal = answer.fatal || answer.findings.back().severity == Finding::Severity::kFatal;
  }
  return answer;
}

}  // namespace tutti
