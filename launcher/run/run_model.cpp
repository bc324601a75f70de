#include "launcher/run/run_model.h"
#include "launcher/run/own_run.h"

#include <tutti/core/checkpoint/checkpoint.h>
#include <tutti/core/checkpoint/model_files.h>
#include <tutti/core/config/run_file.h>
#include <tutti/core/data/tokenizer.h>
#include <tutti/core/error.h>
#include <tutti/core/io/sha256.h>
#include <tutti/models/external_names.h>

#include <algorithm>
#include <cstring>
#include <ostream>
#include <string>
#include <tuple>

namespace tutti {
namespace {

namespace fs = std::filesystem;

/// Returns the dtype of the weights in the files.
DType load_checkpoint(const CheckpointPlace& place, Task& task,
                      std::span<const std::unique_ptr<ParamGroup>> groups, const Stream& stream) {
  verify_files(place.path, read_manifest(place.path));
  const ModelFiles files = ModelFiles::open(place.path);
  load_weights(task.model(), groups, files, stream);
  const std::vector<std::string> names = files.names();
  return names.empty() ? DType::kFloat32 : files.tensor(names.front()).dtype();
}

/// Reads one tensor of a checkpoint from the pieces of all ranks.
Tensor read_pieces(const fs::path& checkpoint, const Manifest::Entry& entry, const Stream& stream) {
  const Tensor whole = Tensor::empty(entry.shape, entry.dtype, stream);
  for (const Manifest::Piece& piece : entry.pieces) {
    const auto file = MappedFile::open(checkpoint / piece.file);
    const int64_t bytes = (piece.end - piece.begin) * size_of(entry.dtype);
    const auto source = file->bytes();
    require(piece.offset >= 0 && piece.offset + bytes <= static_cast<int64_t>(source.size()),
            "{}: is shorter than the manifest says", (checkpoint / piece.file).string());
    std::memcpy(static_cast<std::byte*>(whole.raw()) + piece.begin * size_of(entry.dtype),
                source.data() + piece.offset, static_cast<size_t>(bytes));
  }
  return whole;
}

/// Replaces the rounded weights by the optimizer's masters.
void load_masters(const fs::path& checkpoint, Task& task, const Stream& stream) {
  const Manifest manifest = read_manifest(checkpoint);
  const auto optimizer = manifest.groups.find("optimizer");
  if (optimizer == manifest.groups.end()) return;
  for (Parameter* const parameter : task.model().parameters()) {
    const auto found = optimizer->second.find(parameter->name + ".master");
    if (found == optimizer->second.end()) continue;
    require(found->second.shape == parameter->shape, "{}: master of '{}' has shape {}, the model needs {}",
            checkpoint.string(), parameter->name, to_string(found->second.shape),
            to_string(parameter->shape));
    copy(parameter->value, read_pieces(checkpoint, found->second, stream), stream);
  }
}

}  // namespace

std::pair<int64_t, DType> load_run_weights(const RunCheckpoint& from, Task& task,
                                           std::span<const std::unique_ptr<ParamGroup>> groups,
                                           const Stream& stream, std::ostream& err) {
  const fs::path checkpoints = from.checkpoints.empty() ? from.directory / "checkpoints" : from.checkpoints;
  std::optional<int64_t> damaged;  // step of the newest
  for (const CheckpointPlace& place : list_checkpoints(checkpoints)) {
    if (from.step > 0 && place.step != from.step) continue;
    try {
      const DType dtype = load_checkpoint(place, task, groups, stream);
      if (from.weights == Weights::kMasters) load_masters(place.path, task, stream);
      if (damaged) {
        err << fmt::format("tutti: {}: the newest, of step {}, cannot be read; falling back to step {}\n",
                           checkpoints.string(), *damaged, place.step);
      }
      return {place.step, dtype};
    } catch (const Error& error) {
      err << fmt::format("tutti: step {}: {}\n", place.step, error.what());
      if (!damaged) damaged = place.step;
    }
  }
  fail("{}: there is no checkpoint{}{}", checkpoints.string(),
       from.step > 0 ? fmt::format(" of step {}", from.step) : "", damaged ? " without damage" : "");
}

RunModel open_run_model(const fs::path& directory, int64_t step, const Stream& stream, std::ostream& err,
                        Weights weights) {
  RunModel run;
  OwnRun own = read_own_run(directory);
  for (const std::string& warning : own.warnings) err << "tutti: " << warning << '\n';
  run.settings = std::move(own.settings);
  run.task = make_task(run.settings.model);
  run.groups = make_param_groups(run.task->model(), {.seed = 0}, stream);
  std::tie(run.step, run.dtype) = load_run_weights(
      {.directory = directory, .checkpoints = run.settings.checkpoint.dir, .step = step, .weights = weights},
      *run.task, run.groups, stream, err);
  return run;
}

bool has_tokenizer(const fs::path& directory, std::string_view digest) {
  std::error_code none;
  const fs::path file = directory / "tokenizer.json";
  return fs::is_regular_file(file, none) && sha256(read_text_file(file, kMaxTokenizerBytes)) == digest;
}

void check_tokenizer(const fs::path& model, const DataConfig& data) {
  std::error_code none;
  const fs::path expected = model / "tokenizer.json";
  if (data.kind != "tokens" || !fs::is_regular_file(expected, none)) return;
  const std::optional<Tokenizer> tokenizer = open_tokenizer(data);
  if (!tokenizer || has_tokenizer(model, tokenizer->sha256())) return;
  if (const auto difference = tokenizer->difference(Tokenizer::load(expected))) {
    fail("{}: is not the tokenizer that the model was trained with, {}: {}",
         (fs::path(data.path) / "tokenizer.json").string(), expected.string(), *difference);
  }
}

bool is_hugging_face_folder(const fs::path& path) {
  std::error_code none;
  return fs::exists(path / "config.json", none) && !fs::exists(path / "run.yaml", none);
}

RunModel open_hugging_face_model(const fs::path& folder, int64_t context, const Stream& stream) {
  RunModel model;
  model.folder = hugging_face_config_of(folder);
  require(model.folder.has_value(), "{}: has no config.json", folder.string());
  GptConfig& gpt = model.settings.model.gpt;
  gpt = model.folder->gpt;
  if (gpt.positions != "learned") gpt.context = std::min(gpt.context, std::max<int64_t>(1, context));
  model.task = make_task(model.settings.model);
  model.groups = make_param_groups(model.task->model(), {.seed = 0}, stream);
  const ModelFiles files = ModelFiles::open(folder);
  load_weights(model.task->model(), model.groups, files, stream);
  if (const auto dtype = dtype_from_safetensors(files.at(files.names().front()).dtype);
      dtype && is_floating(*dtype))
    model.dtype = *dtype;
  return model;
}

}  // namespace tutti
