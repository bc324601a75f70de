#pragma once

#include "launcher/run/run_settings.h"

#include <tutti/core/param_group.h>
#include <tutti/core/train/task.h>
#include <tutti/models/hugging_face/config.h>

#include <cstdint>
#include <filesystem>
#include <iosfwd>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace tutti {

/// What a run has trained, with the weights of one of its checkpoints, or what a folder of transformers
/// holds.
struct RunModel {
  RunSettings settings;
  std::unique_ptr<Task> task;
  std::vector<std::unique_ptr<ParamGroup>> groups;  ///< fp32
  DType dtype = DType::kFloat32;                    ///< of the weights in the files
  int64_t step = 0;
  std::optional<HuggingFaceConfig> folder;  ///< of a folder of transformers
};

/// Which of the two precisions of a run in bf16.
enum class Weights : uint8_t {
  kComputed,  ///< those that forward reads
  kMasters,   ///< the optimizer's fp32 ones, where the checkpoint has them
};

/// Reads a run directory's run file and the weights of its checkpoint of `step`, or for 0 of the newest that
/// verifies; what is wrong with newer ones goes to `err`. Throws Error if there is none.
RunModel open_run_model(const std::filesystem::path& directory, int64_t step, const Stream& stream,
                        std::ostream& err, Weights weights = Weights::kComputed);

/// Where a run keeps the checkpoints that its weights come from.
struct RunCheckpoint {
  std::filesystem::path directory;    ///< of the run
  std::filesystem::path checkpoints;  ///< checkpoint.dir of its run file; empty: the run directory's own
  int64_t step = 0;                   ///< 0: the newest that verifies
  Weights weights = Weights::kComputed;
};

/// What open_run_model() loads, into a task made elsewhere, whose groups are fp32 for masters. Returns the
/// step, which is not the newest where `err` is told so, and the dtype of the weights that forward reads.
std::pair<int64_t, DType> load_run_weights(const RunCheckpoint& from, Task& task,
                                           std::span<const std::unique_ptr<ParamGroup>> groups,
                                           const Stream& stream, std::ostream& err);

/// Whether `directory` has the tokenizer.json with this SHA-256.
bool has_tokenizer(const std::filesystem::path& directory, std::string_view digest);

/// Throws Error naming the difference where a model was trained on ids of another tokenizer than `data` is
/// of: where `model`, a run directory or a folder of transformers, has a tokenizer.json, and the data has
/// one.
void check_tokenizer(const std::filesystem::path& model, const DataConfig& data);

/// Whether `path` is a folder of transformers: it has a config.json and no run file.
bool is_hugging_face_folder(const std::filesystem::path& path);

/// The model of such a folder. With rotary positions its context is at most `context`, for which caches are
/// made. Throws Error naming the file and what is not supported.
RunModel open_hugging_face_model(const std::filesystem::path& folder, int64_t context, const Stream& stream);

}  // namespace tutti
