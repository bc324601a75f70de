#include <tutti/models/resnet.h>

#include <tutti/kernels/pool.h>

#include <array>
#include <cmath>
#include <optional>

namespace tutti {
namespace {

/// Without bias: a batch normalisation follows. Source of the initialisation: He et al. 2015, "Delving deep
/// into rectifiers", by fan-out.
ConvOptions filters(int64_t inputs, int64_t outputs, int64_t kernel, int64_t stride) {
  const auto fan_out = static_cast<double>(outputs * kernel * kernel);
  return {.inputs = inputs,
          .outputs = outputs,
          .kernel = kernel,
          .stride = stride,
          .padding = kernel / 2,
          .init = Init::normal(std::sqrt(2 / fan_out))};
}

struct Architecture {
  std::array<int64_t, 4> blocks;
  bool bottleneck;
};

Architecture architecture(int64_t depth) {
  switch (depth) {
    case 18:
      return {{2, 2, 2, 2}, false};
    case 34:
      return {{3, 4, 6, 3}, false};
    case 50:
      return {{3, 4, 6, 3}, true};
    default:
      fail("resnet: depth {} is not one of 18, 34 and 50", depth);
  }
}

}  // namespace

/// relu(x + normalised convolutions of x): two of 3x3, or a bottleneck of 1x1, 3x3 and 1x1 with four times as
/// many outputs. If the shape changes, x passes through a 1x1 convolution.
class ResNet::Block final : public Module {
 public:
  Block(int64_t inputs, int64_t width, int64_t stride, bool bottleneck) {
    const int64_t outputs = bottleneck ? 4 * width : width;
    if (bottleneck) {
      add(filters(inputs, width, 1, 1));
      add(filters(width, width, 3, stride));
      add(filters(width, outputs, 1, 1));
    } else {
      add(filters(inputs, width, 3, stride));
      add(filters(width, outputs, 3, 1));
    }
    if (stride != 1 || inputs != outputs) {
      downsample_.emplace(filters(inputs, outputs, 1, stride));
      register_module("downsample.0", downsample_->conv);
      register_module("downsample.1", downsample_->norm);
    }
  }

  [[nodiscard]] int64_t multiply_adds(ImageSize& size) const {
    int64_t sum = 0;
    ImageSize skipped = size;
    for (const auto& part : parts_) sum += part->conv.multiply_adds(size);
    if (downsample_) sum += downsample_->conv.multiply_adds(skipped);
    return sum;
  }

 protected:
  Var forward(Tape& tape, const Var& x) override {
    const Var skip = downsample_ ? downsample_->norm(tape, downsample_->conv(tape, x)) : x;
    Var h = x;
    for (size_t i = 0; i < parts_.size(); ++i) {
      const bool last = i + 1 == parts_.size();
      h = parts_[i]->norm.apply(tape, parts_[i]->conv(tape, h),
                                {.relu = true, .residual = last ? skip : Var{}});
    }
    return h;
  }

 private:
  struct Part {
    explicit Part(const ConvOptions& options) : conv(options), norm(options.outputs) {}
    Conv conv;
    BatchNorm norm;
  };
  void add(const ConvOptions& options) {
    parts_.push_back(std::make_unique<Part>(options));
    register_module(fmt::format("conv{}", parts_.size()), parts_.back()->conv);
    register_module(fmt::format("bn{}", parts_.size()), parts_.back()->norm);
  }

  std::vector<std::unique_ptr<Part>> parts_;
  std::optional<Part> downsample_;
};

void ResNetConfig::describe(Fields& f) {
  f.value("depth", depth, "18, 34 or 50 layers");
  f.check(depth == 18 || depth == 34 || depth == 50, "depth", "must be 18, 34 or 50");
  f.value("height", height, "of the images; 0: that of the data", not_negative());
  f.value("width", width, "of the images; 0: that of the data", not_negative());
  f.value("channels", channels, "of the images; 0: that of the data", not_negative());
  f.value("classes", classes, "number of classes; 0: that of the data", not_negative());
  f.choice("stem", stem, {"imagenet", "small", "small_strided"},
           "first layer: 7x7 with stride 2 and pooling, or, for images of about 30 pixels, 3x3 with stride 1 "
           "or 2");
  f.value("base_filters", base_filters, "filters of the first stage; doubled in each of the three others",
          between(1, static_cast<double>(kMostWidth) / 8));
  f.value("recompute", recompute, "run blocks again in backward instead of keeping their activations");
}

ResNet::ResNet(ResNetConfig config) : config_(std::move(config)) {
  const ResNetConfig& c = config_;
  check_settings(c, "model");
  require(c.channels > 0 && c.classes > 0 && c.base_filters > 0,
          "resnet: {} channels, {} classes and {} filters must be positive", c.channels, c.classes,
          c.base_filters);
  const Architecture plan = architecture(c.depth);
  if (c.stem == "imagenet")
    conv1_ = std::make_unique<Conv>(filters(c.channels, c.base_filters, 7, 2));
  else
    conv1_ =
        std::make_unique<Conv>(filters(c.channels, c.base_filters, 3, c.stem == "small_strided" ? 2 : 1));
  bn1_ = std::make_unique<BatchNorm>(c.base_filters);
  register_module("conv1", *conv1_);
  register_module("bn1", *bn1_);
  int64_t inputs = c.base_filters;
  for (size_t stage = 0; stage < plan.blocks.size(); ++stage) {
    const int64_t width = c.base_filters << stage;
    for (int64_t i = 0; i < plan.blocks[stage]; ++i) {
      const int64_t stride = stage > 0 && i == 0 ? 2 : 1;
      blocks_.push_back(std::make_unique<Block>(inputs, width, stride, plan.bottleneck));
      register_module(fmt::format("layer{}.{}", stage + 1, i), *blocks_.back());
      inputs = plan.bottleneck ? 4 * width : width;
    }
  }
  const double bound = 1 / std::sqrt(static_cast<double>(inputs));
  fc_ = std::make_unique<Linear>(LinearOptions{.inputs = inputs,
                                               .outputs = c.classes,
                                               .init = Init::uniform(bound),
                                               .bias_init = Init::uniform(bound),
                                               .role = Role::kHead});
  register_module("fc", *fc_);
  name_parameters();
}

ResNet::~ResNet() = default;

double ResNet::multiply_adds() const {
  ImageSize size{config_.height, config_.width};
  require(size.pixels() > 0, "resnet: the image size is unknown");
  int64_t sum = conv1_->multiply_adds(size);
  if (config_.stem == "imagenet") size = window_output(size, 3, 2, 1);
  for (const auto& block : blocks_) sum += block->multiply_adds(size);
  return static_cast<double>(sum + fc_->multiply_adds());
}

Var ResNet::forward(Tape& tape, const Var& x) {
  Var h = bn1_->apply(tape, (*conv1_)(tape, x), {.relu = true, .residual = {}});
  if (config_.stem == "imagenet") {
    Pool2dOptions pool;
    pool.kernel = {3, 3};
    pool.stride = {2, 2};
    pool.padding = {1, 1};
    h = max_pool2d(tape, h, pool);
  }
  for (const auto& block : blocks_) h = call(tape, *block, h, config_.recompute);
  return (*fc_)(tape, global_avg_pool(tape, h));
}

}  // namespace tutti
