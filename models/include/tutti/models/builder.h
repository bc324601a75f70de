#pragma once

#include <tutti/core/config/fields.h>
#include <tutti/core/train/task.h>
#include <tutti/models/cnn.h>
#include <tutti/models/gpt.h>
#include <tutti/models/mlp.h>
#include <tutti/models/resnet.h>

#include <memory>
#include <string>
#include <vector>

namespace tutti {

/// The `model` section of a run file: `kind` and the keys of that kind.
struct ModelConfig {
  std::string kind = "gpt";
  GptConfig gpt;
  ResNetConfig resnet;
  CnnConfig cnn;
  MlpConfig mlp;
  std::string fp8 = "none";    ///< of gpt: products in fp8: none, linear, linear_and_head; models/fp8.h
  double label_smoothing = 0;  ///< of kinds that classify
  std::string weights;         ///< file or folder of first values; see load_weights

  void describe(Fields& f);
};

/// What the data asks of a model.
struct DataShape {
  Shape sample;         ///< (T) tokens, or (H, W, C) of an image
  int64_t classes = 0;  ///< targets are below this: the vocabulary, or the number of classes
};

/// The names that `kind` may have.
std::vector<std::string> model_kinds();

/// Fills in what the run file leaves to the data: vocabulary, context, image size, classes. Throws Error
/// naming the key where the two do not fit each other.
void fit_to_data(ModelConfig& config, const DataShape& data);

/// The model and its loss, parameters named but without storage yet (make_param_groups gives it). Throws
/// Error on sizes that are not known or do not fit.
std::unique_ptr<Task> make_task(const ModelConfig& config);

}  // namespace tutti
