#include <tutti/models/mlp.h>

#include <tutti/kernels/dropout.h>
#include <tutti/kernels/shape.h>

#include <cmath>

namespace tutti {

void MlpConfig::describe(Fields& f) {
  f.value("inputs", inputs, "features per sample; 0: that of the data", not_negative());
  f.value("classes", classes, "number of classes; 0: that of the data", not_negative());
  f.value("hidden", hidden, "widths of the hidden layers", between(1, kMostWidth));
  f.value("dropout", dropout, "probability of dropping a hidden activation", fraction_below_one());
}

Mlp::Mlp(MlpConfig config) : config_(std::move(config)) {
  check_settings(config_, "model");
  require(config_.inputs > 0 && config_.classes > 0, "mlp: inputs {} and classes {} must be positive",
          config_.inputs, config_.classes);
  int64_t inputs = config_.inputs;
  const auto add_layer = [&](int64_t outputs, bool last) {
    require(outputs > 0, "mlp: a hidden layer has width {}", outputs);
    // Hidden: He et al. 2015, eq. 10. Last: PyTorch's default.
    const double fan_in = static_cast<double>(inputs);
    layers_.push_back(std::make_unique<Linear>(LinearOptions{
        .inputs = inputs,
        .outputs = outputs,
        .activation = last ? Activation::kNone : Activation::kRelu,
        .init = last ? Init::uniform(1 / std::sqrt(fan_in)) : Init::normal(std::sqrt(2 / fan_in)),
        .role = last ? Role::kHead : Role::kWeight}));
    register_module(fmt::format("layers.{}", layers_.size() - 1), *layers_.back());
    inputs = outputs;
  };
  for (const int64_t width : config_.hidden) add_layer(width, false);
  add_layer(config_.classes, true);
  name_parameters();
}

double Mlp::multiply_adds() const {
  double sum = 0;
  for (const auto& layer : layers_) sum += static_cast<double>(layer->multiply_adds());
  return sum;
}

Var Mlp::forward(Tape& tape, const Var& x) {
  Var h = view(tape, x, {x.value.size(0), -1});
  require(h.value.size(1) == config_.inputs, "mlp: samples have {} features, the model needs {}",
          h.value.size(1), config_.inputs);
  for (size_t i = 0; i < layers_.size(); ++i) {
    h = (*layers_[i])(tape, h);
    if (i + 1 < layers_.size()) h = dropout(tape, h, config_.dropout, layers_[i]->random_stream());
  }
  return h;
}

}  // namespace tutti
