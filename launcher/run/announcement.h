#pragma once

#include <tutti/comm/compute.h>
#include <tutti/comm/data_parallel.h>
#include <tutti/core/module.h>
#include "launcher/run/run_settings.h"

#include <string>
#include <vector>

namespace tutti {

/// Information for the user before the first step of a training, one string per line.
struct Announcement {
  const RunSettings& settings;
  const Compute& compute;
  const DataParallel& parallel;
  int ranks = 1;
  int64_t first_step = 0;

  [[nodiscard]] std::vector<std::string> lines(Module& model) const;
};

}  // namespace tutti
