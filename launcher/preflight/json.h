#pragma once

#include "launcher/preflight/report.h"

#include <nlohmann/json.hpp>

namespace tutti {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(GpuReport, name, uuid, memory_bytes, uncorrected_errors, clock_mhz,
                                   most_clock_mhz, slowed_by)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(PairReport, rank, other, latency_s, bytes_per_s)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ClockReport, rank, offset_s, uncertainty_s)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RankReport, rank, host, threads, gemm_flops_per_s, memory_bytes_per_s,
                                   binary, run_file, libraries, pairs, clocks, speaks_for_host, cpu_quota,
                                   memory_bytes, available_bytes, shm_bytes, shm_free_bytes, huge_page_bytes,
                                   disk_error, disk_free_bytes, disk_write_bytes_per_s, disk_read_bytes_per_s,
                                   gpus, gpu_error)

}  // namespace tutti
