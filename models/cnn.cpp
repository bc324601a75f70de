#include <tutti/models/cnn.h>

#include <tutti/kernels/activation.h>
#include <tutti/kernels/dropout.h>
#include <tutti/kernels/pool.h>
#include <tutti/kernels/shape.h>

#include <cmath>

namespace tutti {

void CnnConfig::describe(Fields& f) {
  f.value("height", height, "of the images; 0: that of the data", not_negative());
  f.value("width", width, "of the images; 0: that of the data", not_negative());
  f.value("channels", channels, "of the images; 0: that of the data", not_negative());
  f.value("classes", classes, "number of classes; 0: that of the data", not_negative());
  f.value("filters", filters, "filters of each convolution", between(1, kMostWidth));
  f.value("kernel", kernel, "height and width of the filters, odd", between(1, 15));
  f.check(kernel % 2 == 1, "kernel", "must be odd, so that padding preserves the image size");
  f.value("hidden", hidden, "width of the hidden layer", between(1, kMostWidth));
  f.value("dropout", dropout, "probability of dropping an activation before each linear layer",
          fraction_below_one());
}

Cnn::Cnn(CnnConfig config) : config_(std::move(config)) {
  const CnnConfig& c = config_;
  check_settings(c, "model");
  require(c.height > 0 && c.width > 0 && c.channels > 0 && c.classes > 0,
          "cnn: image size {} x {} x {} and {} classes must be positive", c.height, c.width, c.channels,
          c.classes);
  require(c.kernel % 2 == 1, "cnn: kernel {} must be odd", c.kernel);
  int64_t inputs = c.channels;
  ImageSize size{c.height, c.width};
  for (const int64_t outputs : c.filters) {
    const double fan_in = static_cast<double>(inputs * c.kernel * c.kernel);
    convs_.push_back(std::make_unique<Conv>(ConvOptions{.inputs = inputs,
                                                        .outputs = outputs,
                                                        .kernel = c.kernel,
                                                        .padding = c.kernel / 2,
                                                        .bias = true,
                                                        .init = Init::normal(std::sqrt(2 / fan_in))}));
    register_module(fmt::format("convs.{}", convs_.size() - 1), *convs_.back());
    size = {size.height / 2, size.width / 2};
    inputs = outputs;
  }
  require(size.pixels() > 0, "cnn: an image of {} x {} cannot be halved {} times", c.height, c.width,
          c.filters.size());
  const auto features = static_cast<double>(size.pixels() * inputs);
  hidden_ = std::make_unique<Linear>(LinearOptions{.inputs = size.pixels() * inputs,
                                                   .outputs = c.hidden,
                                                   .activation = Activation::kRelu,
                                                   .init = Init::normal(std::sqrt(2 / features))});
  head_ = std::make_unique<Linear>(
      LinearOptions{.inputs = c.hidden,
                    .outputs = c.classes,
                    .init = Init::uniform(1 / std::sqrt(static_cast<double>(c.hidden))),
                    .role = Role::kHead});
  register_module("hidden", *hidden_);
  register_module("head", *head_);
  name_parameters();
}

double Cnn::multiply_adds() const {
  ImageSize size{config_.height, config_.width};
  double sum = static_cast<double>(hidden_->multiply_adds() + head_->multiply_adds());
  for (const auto& conv : convs_) {
    sum += static_cast<double>(conv->multiply_adds(size));
    size = {size.height / 2, size.width / 2};
  }
  return sum;
}

Var Cnn::forward(Tape& tape, const Var& x) {
  Var h = x;
  for (const auto& conv : convs_) h = max_pool2d(tape, relu(tape, (*conv)(tape, h)));
  h = view(tape, h, {h.value.size(0), -1});
  h = dropout(tape, h, config_.dropout, hidden_->random_stream());
  h = (*hidden_)(tape, h);
  h = dropout(tape, h, config_.dropout, head_->random_stream());
  return (*head_)(tape, h);
}

}  // namespace tutti
