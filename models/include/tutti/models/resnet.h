#pragma once

#include <tutti/core/config/fields.h>
#include <tutti/models/layers.h>

#include <memory>
#include <string>
#include <vector>

namespace tutti {

/// Settings of a residual network.
struct ResNetConfig {
  int64_t depth = 18;
  int64_t height = 0;  ///< of the images; 0: those of the data, likewise width, channels and classes
  int64_t width = 0;
  int64_t channels = 0;
  int64_t classes = 0;
  std::string stem = "imagenet";
  int64_t base_filters = 64;
  bool recompute = false;

  void describe(Fields& f);
};

/// ResNet-18, -34 or -50: images (N, H, W, C) -> (N, classes). Source: He et al. 2015, "Deep residual
/// learning for image recognition", table 1; layers, their order, stride on the 3x3 convolution of a
/// bottleneck, initialisation and names are those of torchvision.
class ResNet final : public Module {
 public:
  /// Throws Error unless the depth is 18, 34 or 50 and all sizes are positive.
  explicit ResNet(ResNetConfig config);
  ~ResNet() override;

  [[nodiscard]] const ResNetConfig& config() const noexcept { return config_; }
  /// Multiplications, with an addition each, of a forward pass of one image.
  [[nodiscard]] double multiply_adds() const;

 protected:
  Var forward(Tape& tape, const Var& x) override;

 private:
  class Block;
  ResNetConfig config_;
  std::unique_ptr<Conv> conv1_;
  std::unique_ptr<BatchNorm> bn1_;
  std::vector<std::unique_ptr<Block>> blocks_;
  std::unique_ptr<Linear> fc_;
};

}  // namespace tutti
