#pragma once

#include "launcher/preflight/report.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// Limits beyond which a finding is reported. Shares are of the median over hosts; of an even number of hosts
/// that is the better of the two middle values, so that of two hosts the slower one is named.
struct Thresholds {
  double least_gemm = 0.7;
  double least_memory_bandwidth = 0.6;
  double least_network = 0.5;  ///< of the median over a host's pairs
  double most_latency = 5;     ///< the same; below least_latency_s no ratio matters
  double least_latency_s = 50e-6;
  double least_disk = 0.2;                           ///< a warning: other jobs use the same storage
  double least_available = 0.5;                      ///< memory that other programs do not use: a warning
  double most_clock_offset_s = 1;                    ///< a warning: logs use this clock, time-outs do not
  double least_gpu_clock = 0.5;                      ///< of the GPU's maximum, while it is throttled: bad
  int64_t least_disk_free_bytes = int64_t{1} << 30;  ///< a warning
  int64_t least_shm_bytes = int64_t{256} << 20;      ///< a warning if a host has several ranks
};

/// A problem that preflight has found.
struct Finding {
  enum class Severity : uint8_t {
    kWarning,  ///< for information
    kSlow,     ///< the host would slow down the others
    kBad,      ///< the host cannot be used
    kFatal,    ///< excluding hosts does not help
  };
  Severity severity = Severity::kWarning;
  std::string host;   ///< empty: of all hosts
  std::string check;  ///< "GEMM", "disk", ...
  std::string text;   ///< what was found and expected, and what to do
};
/// "warning", "slow", "bad", "fatal".
std::string_view name(Finding::Severity severity);

/// The measurements of one host.
struct HostSummary {
  std::string host;
  int64_t ranks = 0;
  double gemm_flops_per_s = 0;     ///< of its slowest rank
  double memory_bytes_per_s = 0;   ///< of its slowest rank
  double cpu_quota = 0;            ///< 0: none
  double network_bytes_per_s = 0;  ///< median over pairs with other hosts; among its ranks if there are none
  double network_latency_s = 0;
  double clock_offset_s = 0;
  int64_t available_bytes = 0;
  int64_t shm_bytes = 0;
  int64_t huge_page_bytes = 0;
  int64_t disk_free_bytes = 0;
  double disk_write_bytes_per_s = 0;
  double disk_read_bytes_per_s = 0;
  int64_t gpus = 0;
};

struct Verdict {
  std::vector<HostSummary> hosts;  ///< in the order of their first ranks
  std::vector<Finding> findings;
  /// Hosts that are bad, and slow ones if some are neither; empty if a finding is fatal.
  std::vector<std::string> exclude;

  [[nodiscard]] bool good() const;
  [[nodiscard]] bool fatal() const;
};

/// The middle value; of an even number the higher of the two. 0 of none.
double upper_median(std::vector<double> values);

/// Evaluates the reports of all ranks, in the order of ranks. Pure.
Verdict evaluate(const std::vector<RankReport>& reports, const Thresholds& thresholds = {});

}  // namespace tutti
