#pragma once

#include <tutti/comm/data_parallel.h>
#include <tutti/core/checkpoint/checkpoint.h>
#include <tutti/core/data/data_config.h>
#include <tutti/core/param_group.h>
#include <tutti/core/train/schedule.h>
#include <tutti/core/train/trainer.h>
#include <tutti/kernels/optimizer.h>
#include <tutti/models/builder.h>
#include "launcher/metrics/exporter/exporter.h"

#include <string>

namespace tutti {

/// The `run` section: where a run goes and what it runs on.
struct RunSection {
  std::string dir;  ///< empty: runs/NAME-OF-THE-RUN-FILE
  int64_t seed = 1;
  int64_t threads = 0;
  std::string device = "auto";
  bool share_gpus = false;

  void describe(Fields& f);
};

/// The `precision` section: dtypes of weights and activations, and of gradients.
struct PrecisionSection {
  DType compute = DType::kFloat32;
  DType grad = DType::kFloat32;

  void describe(Fields& f);
};

/// The `parallel` section.
struct ParallelSection {
  DataParallelConfig data;
  int64_t zero = 0;
  int64_t bucket_mib = 8;
  std::string gpu_backend = "auto";
  int64_t max_ctas = 8;
  double timeout_s = 600;

  void describe(Fields& f);
};

/// A whole run file.
struct RunSettings {
  RunSection run;
  DataConfig data;
  ModelConfig model;
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  TrainConfig train;
  PrecisionSection precision;
  ParallelSection parallel;
  CheckpointConfig checkpoint;
  MetricsSection metrics;

  void describe(Fields& f);
};

}  // namespace tutti
