#pragma once

#include <tutti/core/config/fields.h>

#include <cstdint>
#include <string>

namespace tutti {

/// Device and threads of a rank: keys of the `run` section of a run file.
struct ComputeConfig {
  int64_t threads = 0;          ///< per rank; 0: an even share of the host's cores
  std::string device = "auto";  ///< auto, cpu or cuda
  bool share_gpus = false;      ///< several ranks may use one GPU

  void describe(Fields& f);
};

}  // namespace tutti
