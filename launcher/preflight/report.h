#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// One GPU, by NVIDIA's management library.
struct GpuReport {
  std::string name;
  std::string uuid;
  int64_t memory_bytes = 0;
  int64_t uncorrected_errors = 0;  ///< of memory, since the driver was loaded
  int64_t clock_mhz = 0;           ///< current clock of the multiprocessors
  int64_t most_clock_mhz = 0;
  std::string slowed_by;  ///< why the clock is throttled: "heat", "power brake"; empty: it is not
};

/// A measurement between two ranks, made by the lower one.
struct PairReport {
  int rank = 0;
  int other = 0;
  double latency_s = 0;    ///< one way, of a small message
  double bytes_per_s = 0;  ///< one way, of a large one
};

/// The offset of a rank's clock from that of rank 0.
struct ClockReport {
  int rank = 0;
  double offset_s = 0;       ///< ahead of rank 0's
  double uncertainty_s = 0;  ///< half the round trip
};

/// The measurements of one rank. The second half is of its host, set by the host's first rank only.
struct RankReport {
  int rank = 0;
  std::string host;
  int threads = 0;
  double gemm_flops_per_s = 0;    ///< sustained, fp32, on the rank's threads, all ranks at the same time
  double memory_bytes_per_s = 0;  ///< read and written, likewise
  std::string binary;             ///< SHA-256 of the program
  std::string run_file;           ///< SHA-256 of the run file; empty without one
  std::string libraries;          ///< names and versions
  std::vector<PairReport> pairs;
  std::vector<ClockReport> clocks;  ///< of rank 0 only

  bool speaks_for_host = false;
  double cpu_quota = 0;  ///< CPUs that the control group may use; 0: all
  int64_t memory_bytes = 0;
  int64_t available_bytes = 0;
  int64_t shm_bytes = 0;  ///< size of /dev/shm, through which ranks of a host communicate
  int64_t shm_free_bytes = 0;
  int64_t huge_page_bytes = 0;  ///< reserved
  std::string disk_error;       ///< why the run directory cannot be used; empty: it can
  int64_t disk_free_bytes = 0;
  double disk_write_bytes_per_s = 0;
  double disk_read_bytes_per_s = 0;
  std::vector<GpuReport> gpus;
  std::string gpu_error;  ///< why GPUs could not be queried
};

/// As JSON, for the other ranks.
std::string to_text(const RankReport& report);
/// Throws Error if it is not a report.
RankReport report_from_text(std::string_view text);

}  // namespace tutti
