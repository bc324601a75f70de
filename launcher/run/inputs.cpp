#include "launcher/run/inputs.h"

#include "launcher/run/run_model.h"

#include <tutti/core/error.h>
#include <tutti/core/interruption.h>
#include <tutti/core/train/stopwatch.h>
#include "core/counted.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace tutti {
namespace {

constexpr double kMostSecondsOfChecks = 5;
constexpr int64_t kSamplesARead = 16;

/// Throws Error unless all numbers are in [lowest, classes).
void check_range(const Tensor& numbers, int32_t lowest, int64_t classes, int64_t first_sample,
                 std::string_view what) {
  for (const int32_t number : numbers.span<int32_t>()) {
    require(number >= lowest && number < classes,
            "the validation data: {} {} in samples {} to {}; the training data has {} to {}", what, number,
            first_sample, first_sample + numbers.size(0) - 1, 0, classes - 1);
  }
}

}  // namespace

Inputs open_inputs(RunSettings& settings, const std::string& damage_advice) {
  Inputs inputs;
  inputs.training = open_dataset(settings.data, Split::kTraining, damage_advice);
  inputs.validation = open_dataset(settings.data, Split::kValidation, damage_advice);
  fit_to_data(settings.model, {inputs.training->sample_shape(), inputs.training->classes()});
  if (inputs.validation) {
    require(inputs.validation->classes() <= inputs.training->classes(),
            "the validation data has {} classes, the training data in {} has {}",
            inputs.validation->classes(), settings.data.path, inputs.training->classes());
    require(inputs.validation->sample_shape() == inputs.training->sample_shape(),
            "samples of the validation data have shape {}, those of the training data in {} have {}",
            to_string(inputs.validation->sample_shape()), settings.data.path,
            to_string(inputs.training->sample_shape()));
  }
  if (!settings.model.weights.empty()) check_tokenizer(settings.model.weights, settings.data);
  inputs.task = make_task(settings.model);
  return inputs;
}

std::string small_set_note(int64_t samples, int64_t batch) {
  if (batch <= samples) return "";
  return fmt::format("train.batch is {}, but the training set has {}: a step trains at most that number",
                     batch, counted(samples, "sample"));
}

void check_validation(const Inputs& inputs, ShardOf share, const Stream& host) {
  if (!inputs.validation) return;
  const Stopwatch spent;
  const int64_t size = inputs.validation->size();
  const int64_t end = size * (share.rank + 1) / share.ranks;
  for (int64_t at = size * share.rank / share.ranks; at < end && spent.seconds() < kMostSecondsOfChecks;
       at += kSamplesARead) {
    interruption_point();
    std::vector<int64_t> ids(static_cast<size_t>(std::min(kSamplesARead, end - at)));
    std::iota(ids.begin(), ids.end(), at);
    const Batch batch = inputs.validation->read(ids, {}, host);
    const int64_t classes = inputs.training->classes();
    if (batch.inputs.dtype() == DType::kInt32) check_range(batch.inputs, 0, classes, at, "token");
    check_range(batch.targets, -1, classes, at, batch.inputs.dtype() == DType::kInt32 ? "token" : "class");
  }
}

}  // namespace tutti
