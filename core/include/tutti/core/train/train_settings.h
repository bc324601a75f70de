#pragma once

#include <tutti/core/config/fields.h>

#include <cstdint>
#include <optional>

namespace tutti {

enum class DeviceType : uint8_t;

/// Settings of the training loop.
struct TrainConfig {
  int64_t steps = 1000;
  int64_t batch = 32;
  int64_t microbatch = 0;
  std::optional<int64_t> gpu_microbatch;  ///< on a GPU; empty: microbatch
  int64_t evaluate_every = 0;
  int64_t max_skipped_steps = 3;
  bool cuda_graph = true;

  void describe(Fields& f);
  /// Maximum samples per forward pass on such a device; 0: no limit.
  [[nodiscard]] int64_t microbatch_on(DeviceType device) const;
};

}  // namespace tutti
