#pragma once

#include <tutti/core/config/fields.h>

#include <cstdint>
#include <string>

namespace tutti {

/// When checkpoints are written and which are kept.
struct CheckpointConfig {
  std::string dir;         ///< directory; empty: in the run directory, set by the launcher
  int64_t every = 0;       ///< steps between checkpoints; 0: none by steps
  double every_s = 600;    ///< seconds between checkpoints, by rank 0's clock; 0: none by time
  int64_t keep_last = 2;   ///< number of newest checkpoints to keep
  int64_t keep_every = 0;  ///< also keep multiples of this step; 0: none

  void describe(Fields& f);
};

}  // namespace tutti
