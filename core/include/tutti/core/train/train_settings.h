#pragma once

#include <tutti/core/config/fields.h>

#include <cstdint>

namespace tutti {

/// Settings of the training loop.
struct TrainConfig {
  int64_t steps = 1000;
  int64_t batch = 32;
  int64_t microbatch = 0;
  int64_t evaluate_every = 0;
  int64_t max_skipped_steps = 3;
  bool cuda_graph = false;

  void describe(Fields& f);
};

}  // namespace tutti
