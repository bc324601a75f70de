#include "launcher/preflight/evaluate.h"

#include "launcher/info/text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace tutti {
namespace {

using Severity = Finding::Severity;

std::string rate_text(double bytes_per_s) {
  return bytes_text(static_cast<int64_t>(bytes_per_s)) + "/s";
}

/// The middle value; of an even number the lower of the two: for times, the better one.
double lower_median(std::vector<double> values) {
  for (double& value : values) value = -value;
  return -upper_median(std::move(values));
}

/// The reports of one host.
struct Host {
  HostSummary summary;
  const RankReport* first_rank = nullptr;
  std::vector<const RankReport*> ranks;
};

class Evaluation {
 public:
  Evaluation(const std::vector<RankReport>& reports, const Thresholds& thresholds)
      : reports_(reports), limits_(thresholds) {}

  Verdict run() {
    group();
    summarise_network();
    check_equal("program", &RankReport::binary, "install the same build on all hosts");
    check_equal("run file", &RankReport::run_file, "ranks must see the same file");
    check_equal("libraries", &RankReport::libraries, "`tutti info` on each host shows them");
    check_speed();
    check_quota();
    check_network();
    check_memory();
    check_disk();
    check_clocks();
    check_gpus();
    return finish();
  }

 private:
  void group() {
    std::map<std::string, size_t> index;
    for (const RankReport& report : reports_) {
      const auto [place, is_new] = index.try_emplace(report.host, hosts_.size());
      if (is_new) hosts_.push_back({.summary = {.host = report.host}});
      Host& host = hosts_[place->second];
      HostSummary& sum = host.summary;
      const bool first = host.ranks.empty();
      sum.gemm_flops_per_s =
          first ? report.gemm_flops_per_s : std::min(sum.gemm_flops_per_s, report.gemm_flops_per_s);
      sum.memory_bytes_per_s =
          first ? report.memory_bytes_per_s : std::min(sum.memory_bytes_per_s, report.memory_bytes_per_s);
      host.ranks.push_back(&report);
      ++sum.ranks;
      if (!report.speaks_for_host) continue;
      host.first_rank = &report;
      sum.cpu_quota = report.cpu_quota;
      sum.available_bytes = report.available_bytes;
      sum.shm_bytes = report.shm_bytes;
      sum.huge_page_bytes = report.huge_page_bytes;
      sum.disk_free_bytes = report.disk_free_bytes;
      sum.disk_write_bytes_per_s = report.disk_write_bytes_per_s;
      sum.disk_read_bytes_per_s = report.disk_read_bytes_per_s;
      sum.gpus = static_cast<int64_t>(report.gpus.size());
    }
  }

  void summarise_network() {
    std::map<std::string, std::vector<double>> rates;
    std::map<std::string, std::vector<double>> latencies;
    for (const RankReport& report : reports_) {
      for (const PairReport& pair : report.pairs) {
        for (const int rank : {pair.rank, pair.other}) {
          const std::string& host = reports_.at(static_cast<size_t>(rank)).host;
          rates[host].push_back(pair.bytes_per_s);
          latencies[host].push_back(pair.latency_s);
        }
      }
      for (const ClockReport& clock : report.clocks) {
        const std::string& host = reports_.at(static_cast<size_t>(clock.rank)).host;
        for (Host& h : hosts_) {
          if (h.summary.host != host) continue;
          h.summary.clock_offset_s = clock.offset_s;
          if (std::abs(clock.offset_s) - clock.uncertainty_s > limits_.most_clock_offset_s) {
            late_.push_back(&h);
          }
        }
      }
    }
    for (Host& host : hosts_) {
      host.summary.network_bytes_per_s = upper_median(rates[host.summary.host]);
      host.summary.network_latency_s = lower_median(latencies[host.summary.host]);
    }
  }

  void find(Severity severity, std::string host, std::string check, std::string text) {
    verdict_.findings.push_back({severity, std::move(host), std::move(check), std::move(text)});
  }

  /// A text that all ranks must share: hosts that differ from more than half of them are bad.
  void check_equal(std::string_view what, std::string RankReport::*member, std::string_view advice) {
    std::map<std::string, std::vector<std::string>> hosts_of;
    for (const Host& host : hosts_) {
      std::set<std::string> values;
      for (const RankReport* report : host.ranks) values.insert(report->*member);
      for (const std::string& value : values) hosts_of[value].push_back(host.summary.host);
    }
    if (hosts_of.size() <= 1) return;
    const auto most = std::max_element(hosts_of.begin(), hosts_of.end(), [](const auto& a, const auto& b) {
      return a.second.size() < b.second.size();
    });
    if (2 * most->second.size() <= hosts_.size()) {
      std::vector<std::string> groups;
      groups.reserve(hosts_of.size());
      for (const auto& [value, hosts] : hosts_of) {
        groups.push_back(fmt::format("{} on {}", short_text(value), fmt::join(hosts, ", ")));
      }
      find(Severity::kFatal, "", std::string(what),
           fmt::format("hosts differ: {}; {}", fmt::join(groups, "; "), advice));
      return;
    }
    for (const auto& [value, hosts] : hosts_of) {
      if (value == most->first) continue;
      for (const std::string& host : hosts) {
        find(Severity::kBad, host, std::string(what),
             fmt::format("{} instead of the others' {}; {}", short_text(value), short_text(most->first),
                         advice));
      }
    }
  }

  /// Digests by their beginning, lists in full.
  static std::string short_text(const std::string& value) {
    constexpr size_t kDigest = 64;
    if (value.empty()) return "none";
    return value.size() == kDigest ? value.substr(0, 12) : value;
  }

  double median_of(double HostSummary::*member) const {
    std::vector<double> values;
    values.reserve(hosts_.size());
    for (const Host& host : hosts_) values.push_back(host.summary.*member);
    return upper_median(std::move(values));
  }

  template <class Text>
  void check_share(Severity severity, std::string_view what, double HostSummary::*member, double least,
                   Text text, std::string_view advice) {
    const double median = median_of(member);
    for (const Host& host : hosts_) {
      const double value = host.summary.*member;
      if (value >= least * median) continue;
      find(severity, host.summary.host, std::string(what),
           fmt::format("{}, the median is {}: below {:.0f} %{}{}", text(value), text(median), 100 * least,
                       advice.empty() ? "" : "; ", advice));
    }
  }

  void check_speed() {
    const auto flops = [](double rate) { return fmt::format("{:.1f} GFLOP/s per rank", rate / 1e9); };
    const auto bytes = [](double rate) { return rate_text(rate) + " a rank"; };
    check_share(Severity::kSlow, "GEMM", &HostSummary::gemm_flops_per_s, limits_.least_gemm, flops,
                "other programs, a low clock or fewer cores");
    check_share(Severity::kSlow, "memory bandwidth", &HostSummary::memory_bytes_per_s,
                limits_.least_memory_bandwidth, bytes, "other programs, or a missing memory channel");
    // With a single host there is none to exclude.
    for (const Host& host : hosts_) {
      std::vector<double> rates;
      rates.reserve(host.ranks.size());
      for (const RankReport* report : host.ranks) rates.push_back(report->gemm_flops_per_s);
      const double median = upper_median(std::move(rates));
      for (const RankReport* report : host.ranks) {
        if (report->gemm_flops_per_s >= limits_.least_gemm * median) continue;
        find(Severity::kWarning, host.summary.host, "GEMM",
             fmt::format("rank {} reaches {} on {} threads, the host's median is {}", report->rank,
                         flops(report->gemm_flops_per_s), report->threads, flops(median)));
      }
    }
  }

  /// With a quota, all threads run for a part of each period, by default 0.1 s, and then none.
  void check_quota() {
    for (const Host& host : hosts_) {
      int64_t threads = 0;
      for (const RankReport* report : host.ranks) threads += report->threads;
      const double quota = host.summary.cpu_quota;
      if (quota <= 0 || quota >= static_cast<double>(threads)) continue;
      find(Severity::kWarning, host.summary.host, "CPU quota",
           fmt::format("the control group may take {:.2f} CPUs, and its ranks have {} threads: the kernel "
                       "suspends them in between; request more CPUs, or start fewer ranks or threads",
                       quota, threads));
    }
  }

  void check_network() {
    if (hosts_.size() < 2) return;
    check_share(Severity::kSlow, "network", &HostSummary::network_bytes_per_s, limits_.least_network,
                &rate_text, "its cable, port or a slower interface (--interface)");
    std::vector<double> latencies;
    latencies.reserve(hosts_.size());
    for (const Host& host : hosts_) latencies.push_back(host.summary.network_latency_s);
    const double median = lower_median(std::move(latencies));
    for (const Host& host : hosts_) {
      const double value = host.summary.network_latency_s;
      if (value <= limits_.least_latency_s || value <= limits_.most_latency * median) continue;
      find(
          Severity::kSlow, host.summary.host, "network",
          fmt::format("a small message takes {:.0f} us, the median is {:.0f} us", 1e6 * value, 1e6 * median));
    }
  }

  void check_memory() {
    std::vector<double> available;
    available.reserve(hosts_.size());
    for (const Host& host : hosts_) available.push_back(static_cast<double>(host.summary.available_bytes));
    const double median = upper_median(std::move(available));
    for (const Host& host : hosts_) {
      const HostSummary& sum = host.summary;
      if (static_cast<double>(sum.available_bytes) < limits_.least_available * median) {
        find(Severity::kWarning, sum.host, "memory",
             fmt::format("{} free, the median is {}", bytes_text(sum.available_bytes),
                         bytes_text(static_cast<int64_t>(median))));
      }
      if (sum.ranks > 1 && host.first_rank != nullptr && sum.shm_bytes < limits_.least_shm_bytes) {
        find(Severity::kWarning, sum.host, "shared memory",
             fmt::format(
                 "/dev/shm has {}: ranks of a host communicate through it; give a container --shm-size",
                 bytes_text(sum.shm_bytes)));
      }
    }
  }

  void check_disk() {
    check_share(Severity::kWarning, "disk", &HostSummary::disk_write_bytes_per_s, limits_.least_disk,
                &rate_text, "");
    for (const Host& host : hosts_) {
      if (host.first_rank == nullptr) continue;
      if (!host.first_rank->disk_error.empty()) {
        find(Severity::kBad, host.summary.host, "disk", host.first_rank->disk_error);
      } else if (host.summary.disk_free_bytes < limits_.least_disk_free_bytes) {
        find(Severity::kWarning, host.summary.host, "disk",
             fmt::format("{} free in the run directory: checkpoints may not fit",
                         bytes_text(host.summary.disk_free_bytes)));
      }
    }
  }

  void check_clocks() {
    for (const Host* host : late_) {
      find(Severity::kWarning, host->summary.host, "clock",
           fmt::format(
               "{:+.3f} s against rank 0's host: logs and file times will not fit together; start a time "
               "service such as chrony",
               host->summary.clock_offset_s));
    }
  }

  void check_gpus() {
    std::vector<double> counts;
    std::map<std::string, std::string> host_of;
    for (const Host& host : hosts_) {
      if (host.first_rank == nullptr) continue;
      counts.push_back(static_cast<double>(host.summary.gpus));
      if (!host.first_rank->gpu_error.empty()) {
        find(Severity::kBad, host.summary.host, "GPU", host.first_rank->gpu_error);
      }
      for (size_t i = 0; i < host.first_rank->gpus.size(); ++i) check_gpu(host, i, host_of);
    }
    const auto usual = static_cast<int64_t>(upper_median(counts));
    for (const Host& host : hosts_) {
      if (host.first_rank == nullptr || host.summary.gpus >= usual) continue;
      find(Severity::kBad, host.summary.host, "GPU",
           fmt::format("{} GPUs, the others have {}: one may have fallen off the bus (dmesg, Xid 79)",
                       host.summary.gpus, usual));
    }
  }

  void check_gpu(const Host& host, size_t index, std::map<std::string, std::string>& host_of) {
    const GpuReport& gpu = host.first_rank->gpus[index];
    const std::string which = fmt::format("GPU {} ({})", index, gpu.name);
    const auto [other, is_new] = host_of.try_emplace(gpu.uuid, host.summary.host);
    if (!is_new) {
      find(Severity::kFatal, "", "GPU",
           fmt::format("{} and {} show the same GPU {}: ranks would share it", other->second,
                       host.summary.host, gpu.uuid));
    }
    if (gpu.uncorrected_errors > 0) {
      find(
          Severity::kBad, host.summary.host, "GPU",
          fmt::format("{}: {} memory errors that could not be corrected; it needs a reset, or to be replaced",
                      which, gpu.uncorrected_errors));
    }
    const double least = limits_.least_gpu_clock * static_cast<double>(gpu.most_clock_mhz);
    if (gpu.slowed_by.empty()) return;
    const bool much = static_cast<double>(gpu.clock_mhz) < least;
    find(much ? Severity::kSlow : Severity::kWarning, host.summary.host, "GPU",
         fmt::format("{}: held at {} of {} MHz by {}", which, gpu.clock_mhz, gpu.most_clock_mhz,
                     gpu.slowed_by));
  }

  Verdict finish() {
    for (const Host& host : hosts_) verdict_.hosts.push_back(host.summary);
    std::set<std::string> bad;
    std::set<std::string> worse;
    for (const Finding& finding : verdict_.findings) {
      if (finding.severity == Severity::kBad) bad.insert(finding.host);
      if (finding.severity == Severity::kSlow || finding.severity == Severity::kBad)
        worse.insert(finding.host);
    }
    // Each may be slow in another measure: there is no replacement then.
    const bool all_slow = worse.size() == hosts_.size();
    if (!bad.empty() && bad.size() == hosts_.size())
      find(Severity::kFatal, "", "hosts", "no good host is left");
    const std::set<std::string>& names = all_slow ? bad : worse;
    std::stable_sort(verdict_.findings.begin(), verdict_.findings.end(),
                     [](const Finding& a, const Finding& b) { return a.severity > b.severity; });
    if (!verdict_.fatal()) verdict_.exclude.assign(names.begin(), names.end());
    return std::move(verdict_);
  }

  const std::vector<RankReport>& reports_;
  const Thresholds& limits_;
  std::vector<Host> hosts_;
  std::vector<const Host*> late_;
  Verdict verdict_;
};

}  // namespace

std::string_view name(Severity severity) {
  switch (severity) {
    case Severity::kWarning:
      return "warning";
    case Severity::kSlow:
      return "slow";
    case Severity::kBad:
      return "bad";
    case Severity::kFatal:
      return "fatal";
  }
  return "fatal";
}

bool Verdict::fatal() const {
  return std::any_of(findings.begin(), findings.end(),
                     [](const Finding& f) { return f.severity == Severity::kFatal; });
}

bool Verdict::good() const {
  return exclude.empty() && !fatal();
}

double upper_median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

Verdict evaluate(const std::vector<RankReport>& reports, const Thresholds& thresholds) {
  return Evaluation(reports, thresholds).run();
}

}  // namespace tutti
