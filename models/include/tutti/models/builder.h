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
  std::string fp8 = "none";    ///< gpt: matrix products in fp8: none, linear, linear_and_head; models/fp8.h
  double label_smoothing = 0;  ///< for classification
  std::string weights;         ///< file or folder of initial weights; see load_weights

  void describe(Fields& f);
};

/// Requirements of the data on a model.
struct DataShape {
  Shape sample;         ///< (T) tokens, or (H, W, C) of an image
  int64_t classes = 0;  ///< size of the vocabulary, or number of classes
};

/// The valid values of `kind`.
std::vector<std::string> model_kinds();

/// Fills in keys that depend on the data: vocabulary, context, image size, classes. Throws Error naming the
/// key if model and data do not match.
void fit_to_data(ModelConfig& config, const DataShape& data);

/// Creates the model and its loss; parameters are named but have no storage (see make_param_groups). Throws
/// Error on unknown or invalid sizes.
std::unique_ptr<Task> make_task(const ModelConfig& config);

}  // namespace tutti
