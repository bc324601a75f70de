#pragma once

#include "launcher/run/run_settings.h"

#include <tutti/core/param_group.h>
#include <tutti/core/train/task.h>

#include <cstdint>
#include <filesystem>
#include <iosfwd>
#include <memory>
#include <vector>

namespace tutti {

/// What a run has trained, with the weights of one of its checkpoints.
struct RunModel {
  RunSettings settings;
  std::unique_ptr<Task> task;
  std::vector<std::unique_ptr<ParamGroup>> groups;  ///< fp32
  DType dtype = DType::kFloat32;                    ///< of the weights in the checkpoint
  int64_t step = 0;
};

/// Reads a run directory's run file and the weights of its checkpoint of `step`, or for 0 of the newest that
/// verifies; what is wrong with newer ones goes to `err`. Throws Error if there is none.
RunModel open_run_model(const std::filesystem::path& directory, int64_t step, const Stream& stream,
                        std::ostream& err);

}  // namespace tutti
