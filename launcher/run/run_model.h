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

/// The model of a run with the weights of one of its checkpoints, or the model in a folder of transformers.
struct RunModel {
  RunSettings settings;
  std::unique_ptr<Task> task;
  std::vector<std::unique_ptr<ParamGroup>> groups;  ///< fp32
  DType dtype = DType::kFloat32;                    ///< of the weights in the files
  int64_t step = 0;
  std::optional<HuggingFaceConfig> folder;  ///< of a folder of transformers
};

/// Which weights of a bf16 run.
enum class Weights : uint8_t {
  kComputed,  ///< the weights in forward
  kMasters,   ///< the fp32 weights in the optimizer, if the checkpoint has them
};

/// Reads the run file of a run directory and the weights of its checkpoint of `step`, or for 0 of the newest
/// with valid checksums; errors in newer ones are logged to `err`. Throws Error if there is none.
RunModel open_run_model(const std::filesystem::path& directory, int64_t step, const Stream& stream,
                        std::ostream& err, Weights weights = Weights::kComputed);

/// Location of the checkpoints of a run.
struct RunCheckpoint {
  std::filesystem::path directory;    ///< of the run
  std::filesystem::path checkpoints;  ///< checkpoint.dir of its run file; empty: in the run directory
  int64_t step = 0;                   ///< 0: the newest with valid checksums
  Weights weights = Weights::kComputed;
};

/// Loads weights as open_run_model() does into an existing task, whose groups must be fp32 for masters.
/// Returns the step, which is not the newest if that is logged to `err`, and the dtype of the weights in
/// forward.
std::pair<int64_t, DType> load_run_weights(const RunCheckpoint& from, Task& task,
                                           std::span<const std::unique_ptr<ParamGroup>> groups,
                                           const Stream& stream, std::ostream& err);

/// Whether `directory` has the tokenizer.json with this SHA-256.
bool has_tokenizer(const std::filesystem::path& directory, std::string_view digest);

/// Throws Error naming the difference if a model was trained with another tokenizer than that of `data`.
/// Compares only if `model`, a run directory or a folder of transformers, has a tokenizer.json, and the data
/// has one.
void check_tokenizer(const std::filesystem::path& model, const DataConfig& data);

/// Whether `path` is a folder of transformers: it has a config.json and no run file.
bool is_hugging_face_folder(const std::filesystem::path& path);

/// The model of such a folder. With rotary positions its context is at most `context`, the size of the
/// caches. Throws Error naming the file and what is not supported.
RunModel open_hugging_face_model(const std::filesystem::path& folder, int64_t context, const Stream& stream);

}  // namespace tutti
