#pragma once

#include <tutti/comm/collective.h>
#include "launcher/bench/device_trace.h"
#include "launcher/bench/kernels.h"

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace tutti {

struct StepBenchOptions {
  std::filesystem::path run_file;
  std::vector<std::string> sets;  ///< key=value
  int64_t steps = 10;             ///< measured steps
  int64_t warmup = 3;             ///< steps before them
  int64_t classes = 0;       ///< vocabulary or classes, if the run file does not set them; 0: a usual number
  double budget_s = 1;       ///< per ceiling
  int64_t traced_steps = 5;  ///< on CUDA, after the others: for device_time
};

/// The training step of a run file on random data that is on the device. Times are medians over steps.
struct StepBench {
  std::string recipe;
  std::string device;
  int ranks = 1;
  int threads = 0;  ///< per rank
  DType dtype = DType::kFloat32;
  int64_t batch = 0;
  std::string item;  ///< "tokens" or "images"
  double items_per_s = 0;
  double step_s = 0;
  double fastest_step_s = 0;
  double data_s = 0;                      ///< of a step: waiting for the next batch
  double comm_s = 0;                      ///< waiting for other ranks
  double optimizer_s = 0;                 ///< on CUDA only the host's part
  double flops_per_s = 0;                 ///< of the model's matrix products, all ranks together
  double utilisation = 0;                 ///< MFU: flops_per_s over the product ceiling of all ranks
  int64_t memory_bytes = 0;               ///< peak of tensors on rank 0's device
  Ceilings ceilings;                      ///< of one rank, measured on all ranks at the same time
  double loss = 0;                        ///< of the last step
  std::optional<DeviceTime> device_time;  ///< on CUDA: of rank 0's device
  std::string why_no_device_time;         ///< on CUDA, if it could not be measured
};

/// Collective over `world`. Throws Error on all ranks if the run file is not valid, or if its training ends
/// early because losses are not finite.
StepBench bench_step(const StepBenchOptions& options, Collective& world);

std::string to_json(const std::vector<StepBench>& benches);
std::string table(const std::vector<StepBench>& benches);

}  // namespace tutti
