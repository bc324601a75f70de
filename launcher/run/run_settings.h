#pragma once

#include <tutti/comm/compute.h>
#include <tutti/comm/distributed_model.h>
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
