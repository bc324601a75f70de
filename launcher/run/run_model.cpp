#include "launcher/run/run_model.h"
#include "launcher/run/own_run.h"

#include <tutti/core/checkpoint/checkpoint.h>
#include <tutti/core/checkpoint/model_files.h>
#include <tutti/core/config/run_file.h>
#include <tutti/core/error.h>
#include <tutti/models/external_names.h>

#include <ostream>
#include <string>

namespace tutti {
namespace {

namespace fs = std::filesystem;

/// Returns the dtype that the weights have in the files.
DType load_checkpoint(const CheckpointPlace& place, RunModel& run, const Stream& stream) {
  verify_files(place.path, read_manifest(place.path));
  const ModelFiles files = ModelFiles::open(place.path);
  load_weights(run.task->model(), run.groups, files, stream);
  const std::vector<std::string> names = files.names();
  return names.empty() ? DType::kFloat32 : files.tensor(names.front()).dtype();
}

}  // namespace

RunModel open_run_model(const fs::path& directory, int64_t step, const Stream& stream, std::ostream& err) {
  RunModel run;
  OwnRun own = read_own_run(directory);
  for (const std::string& warning : own.warnings) err << "tutti: " << warning << '\n';
  run.settings = std::move(own.settings);
  run.task = make_task(run.settings.model);
  run.groups = make_param_groups(run.task->model(), {.seed = 0}, stream);
  const std::string& elsewhere = run.settings.checkpoint.dir;
  const fs::path checkpoints = elsewhere.empty() ? directory / "checkpoints" : fs::path(elsewhere);
  std::string problems;
  for (const CheckpointPlace& place : list_checkpoints(checkpoints)) {
    if (step > 0 && place.step != step) continue;
    try {
      run.dtype = load_checkpoint(place, run, stream);
      run.step = place.step;
      return run;
    } catch (const Error& error) {
      err << "tutti: " << error.what() << '\n';
      problems = ", or none that is whole";
    }
  }
  fail("{}: there is no checkpoint{}{}", checkpoints.string(),
       step > 0 ? fmt::format(" of step {}", step) : "", problems);
}

}  // namespace tutti
