#pragma once

#include <tutti/comm/compute_settings.h>
#include <tutti/comm/parallel_settings.h>
#include <tutti/core/checkpoint/checkpoint_settings.h>
#include <tutti/core/data/data_config.h>
#include <tutti/core/precision.h>
#include <tutti/core/train/schedule.h>
#include <tutti/core/train/train_settings.h>
#include <tutti/kernels/optimizer_settings.h>
#include <tutti/models/builder.h>
#include "launcher/metrics/exporter/metrics_settings.h"

#include <string>

namespace tutti {

/// The `run` section: directory and devices of a run.
struct RunSection {
  std::string dir;  ///< empty: runs/NAME-OF-THE-RUN-FILE
  int64_t seed = 1;
  ComputeConfig compute;

  void describe(Fields& f);
};

/// A complete run file.
struct RunSettings {
  RunSection run;
  DataConfig data;
  ModelConfig model;
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  TrainConfig train;
  Precision precision;
  ParallelConfig parallel;
  CheckpointConfig checkpoint;
  MetricsSection metrics;

  void describe(Fields& f);
};

}  // namespace tutti
