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
  int64_t steps = 10;             ///< that count
  int64_t warmup = 3;             ///< before them
  int64_t classes = 0;       ///< vocabulary or classes where the run file leaves them to the data; 0: a guess
  double budget_s = 1;       ///< for each ceiling
  int64_t traced_steps = 5;  ///< on CUDA, after the others: where the device's time goes
};

/// The training step of a run file on random data that lies ready. Times are medians over steps.
struct StepBench {
  std::string recipe;
  std::string device;
  int ranks = 1;
  int threads = 0;  ///< a rank
  DType dtype = DType::kFloat32;
  int64_t batch = 0;
  std::string item;  ///< "tokens" or "images"
  double items_per_s = 0;
  double step_s = 0;
  double fastest_step_s = 0;
  double data_s = 0;                      ///< of a step: waiting for the next batch
  double comm_s = 0;                      ///< waiting for other ranks
  double optimizer_s = 0;                 ///< on CUDA the host's part of it
  double flops_per_s = 0;                 ///< of the model's own products, all ranks together
  double utilisation = 0;                 ///< of the product ceiling of all ranks: MFU
  int64_t memory_bytes = 0;               ///< peak of tensors on rank 0's device
  Ceilings ceilings;                      ///< of one rank, while all measure
  double loss = 0;                        ///< of the last step
  std::optional<DeviceTime> device_time;  ///< on CUDA, of rank 0's device in a step
  std::string why_no_device_time;         ///< on CUDA without it
};

/// Collective over `world`. Throws Error on all ranks alike if the run file is not fit.
StepBench bench_step(const StepBenchOptions& options, Collective& world);

std::string to_json(const std::vector<StepBench>& benches);
std::string table(const std::vector<StepBench>& benches);

}  // namespace tutti
