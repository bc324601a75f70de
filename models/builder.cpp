#include <tutti/models/builder.h>

#include <tutti/models/fp8.h>
#include <tutti/models/tasks.h>

#include <algorithm>
#include <functional>

namespace tutti {
namespace {

/// Replaces 0 by the size of the data; refuses any other value.
void fit_exactly(int64_t& value, int64_t data, std::string_view key) {
  if (value == 0) value = data;
  require(value == data, "model.{} is {}, but the data has {}", key, value, data);
}

/// The same for keys that may be larger than the data needs.
void fit_at_least(int64_t& value, int64_t data, std::string_view key) {
  if (value == 0) value = data;
  require(value >= data, "model.{} is {}, but the data needs {}{}", key, value, data,
          key == "context" ? " (data.context)" : "");
}

void require_dims(const DataShape& data, size_t dims, std::string_view kind, std::string_view what) {
  require(data.sample.size() == dims, "model.kind {} needs {}, but the samples of the data have shape {}",
          kind, what, to_string(data.sample));
}

template <class Config>
void fit_image(Config& config, const DataShape& data, std::string_view kind) {
  require_dims(data, 3, kind, "images (height, width, channels)");
  fit_exactly(config.height, data.sample[0], "height");
  fit_exactly(config.width, data.sample[1], "width");
  fit_exactly(config.channels, data.sample[2], "channels");
  fit_at_least(config.classes, data.classes, "classes");
}

void fit_gpt(ModelConfig& config, const DataShape& data) {
  require_dims(data, 1, "gpt", "sequences of tokens");
  fit_at_least(config.gpt.vocabulary, data.classes, "vocabulary");
  fit_at_least(config.gpt.context, data.sample[0], "context");
}

void fit_mlp(ModelConfig& config, const DataShape& data) {
  fit_exactly(config.mlp.inputs, numel(data.sample), "inputs");
  fit_at_least(config.mlp.classes, data.classes, "classes");
}

std::unique_ptr<Task> make_gpt(const ModelConfig& config) {
  auto model = std::make_unique<Gpt>(config.gpt);
  if (config.fp8 != "none")
    use_fp8(*model, config.fp8 == "linear" ? Fp8Layers::kLinear : Fp8Layers::kLinearAndHead);
  return std::make_unique<LanguageModelTask>(std::move(model));
}

template <class Model, class Config>
std::unique_ptr<Task> make_classifier(const ModelConfig& config, const Config& model_config) {
  auto model = std::make_unique<Model>(model_config);
  const ClassificationTask::Options options{.label_smoothing = config.label_smoothing,
                                            .multiply_adds = model->multiply_adds()};
  return std::make_unique<ClassificationTask>(std::move(model), options);
}

/// Functions of a kind of model; a new one is a row of kinds().
struct Kind {
  std::string name;
  std::function<void(ModelConfig&, Fields&)> describe;
  std::function<void(ModelConfig&, const DataShape&)> fit;
  std::function<std::unique_ptr<Task>(const ModelConfig&)> make;
};

void describe_smoothing(ModelConfig& config, Fields& f) {
  f.value("label_smoothing", config.label_smoothing,
          "probability that is distributed evenly over all classes", fraction_below_one());
}

void describe_fp8(ModelConfig& config, Fields& f) {
  f.choice("fp8", config.fp8, {"none", "linear", "linear_and_head"},
           "products of these layers in fp8, the head's at some loss in narrow models (precision.compute: "
           "bf16; GPUs from sm_89 on; slower emulation on CPUs)");
}

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> table{
      {"gpt",
       [](ModelConfig& c, Fields& f) {
         c.gpt.describe(f);
         describe_fp8(c, f);
       },
       fit_gpt, make_gpt},
      {"resnet",
       [](ModelConfig& c, Fields& f) {
         c.resnet.describe(f);
         describe_smoothing(c, f);
       },
       [](ModelConfig& c, const DataShape& data) { fit_image(c.resnet, data, "resnet"); },
       [](const ModelConfig& c) { return make_classifier<ResNet>(c, c.resnet); }},
      {"cnn",
       [](ModelConfig& c, Fields& f) {
         c.cnn.describe(f);
         describe_smoothing(c, f);
       },
       [](ModelConfig& c, const DataShape& data) { fit_image(c.cnn, data, "cnn"); },
       [](const ModelConfig& c) { return make_classifier<Cnn>(c, c.cnn); }},
      {"mlp",
       [](ModelConfig& c, Fields& f) {
         c.mlp.describe(f);
         describe_smoothing(c, f);
       },
       fit_mlp, [](const ModelConfig& c) { return make_classifier<Mlp>(c, c.mlp); }},
  };
  return table;
}

const Kind& kind_named(const std::string& name) {
  const auto found =
      std::find_if(kinds().begin(), kinds().end(), [&](const Kind& k) { return k.name == name; });
  require(found != kinds().end(), "model.kind '{}' is not one of {}", name, fmt::join(model_kinds(), ", "));
  return *found;
}

}  // namespace

std::vector<std::string> model_kinds() {
  std::vector<std::string> names;
  for (const Kind& kind : kinds()) names.push_back(kind.name);
  return names;
}

void ModelConfig::describe(Fields& f) {
  f.choice("kind", kind, model_kinds(), "kind of model; the other keys depend on it");
  for (const Kind& row : kinds()) {
    if (f.wants_all() || row.name == kind) row.describe(*this, f);
  }
  f.path("weights", weights,
         "safetensors file or folder with initial weights: with names of Hugging Face (GPT-2, Llama and "
         "related models; their config.json must match), of torchvision (ResNet) or of a checkpoint; empty: "
         "random");
}

void fit_to_data(ModelConfig& config, const DataShape& data) {
  kind_named(config.kind).fit(config, data);
}

std::unique_ptr<Task> make_task(const ModelConfig& config) {
  return kind_named(config.kind).make(config);
}

}  // namespace tutti
