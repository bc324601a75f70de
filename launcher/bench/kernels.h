#pragma once

#include <tutti/comm/compute.h>
#include "launcher/bench/bench_device.h"
#include "launcher/bench/kernel_cases.h"

#include <iosfwd>
#include <string>
#include <vector>

namespace tutti {

/// The highest rates of the device, measured in the same run as the kernels that are compared with them.
struct Ceilings {
  double copy_bytes_per_s = 0;  ///< read and written, of a copy far larger than the caches
  double gemm_flops_per_s = 0;  ///< of a large square product
  std::string gemm_shape;
};
Ceilings measure_ceilings(const Stream& stream, DType dtype, double budget_s);

struct KernelResult {
  std::string name;
  std::string shape;
  double seconds = 0;
  double bytes_per_s = 0;
  double flops_per_s = 0;  ///< 0 if memory bandwidth is the bound
  double share = 0;        ///< of the ceiling: the product's for matrix products, else the copy's
  std::string error;       ///< why there is no result
};

struct KernelBenchOptions {
  KernelSizes sizes;
  DType dtype = DType::kFloat32;
  double budget_s = 0.3;  ///< per kernel
  std::string only;       ///< only kernels whose names contain this
};

struct KernelBench {
  std::string device;
  int threads = 0;
  DType dtype = DType::kFloat32;
  Ceilings ceilings;
  std::vector<KernelResult> kernels;
};

/// Times each operation: forward, and backward as the difference between both together and forward.
/// Operations without a kernel for the device get an error. `progress` is called with each result.
KernelBench bench_kernels(const Compute& compute, const KernelBenchOptions& options,
                          FunctionRef<void(const KernelResult&)> progress);

std::string to_json(const KernelBench& bench);
/// The header of the table, and one of its rows.
std::string table_head(const KernelBench& bench);
std::string table_line(const KernelResult& result);

}  // namespace tutti
