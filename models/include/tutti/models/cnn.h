#pragma once

#include <tutti/core/config/fields.h>
#include <tutti/models/layers.h>

#include <memory>
#include <vector>

namespace tutti {

/// Settings of a small convolutional network.
struct CnnConfig {
  int64_t height = 0;  ///< of the images; 0: those of the data, likewise width, channels and classes
  int64_t width = 0;
  int64_t channels = 0;
  int64_t classes = 0;
  std::vector<int64_t> filters = {32, 64};
  int64_t kernel = 3;
  int64_t hidden = 128;
  double dropout = 0.25;

  void describe(Fields& f);
};

/// Convolutions with ReLU and 2x2 max pooling, then a hidden layer and the classes: images (N, H, W, C) ->
/// (N, classes). `filters` sets the number of convolutions, two by default.
class Cnn final : public Module {
 public:
  /// Throws Error unless all sizes are positive and the image is large enough to be halved once per
  /// convolution.
  explicit Cnn(CnnConfig config);

  [[nodiscard]] const CnnConfig& config() const noexcept { return config_; }
  /// Multiplications, with an addition each, of a forward pass of one image.
  [[nodiscard]] double multiply_adds() const;

 protected:
  Var forward(Tape& tape, const Var& x) override;

 private:
  CnnConfig config_;
  std::vector<std::unique_ptr<Conv>> convs_;
  std::unique_ptr<Linear> hidden_, head_;
};

}  // namespace tutti
