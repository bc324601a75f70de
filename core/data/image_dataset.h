#pragma once

#include <tutti/core/config/fields.h>
#include <tutti/core/data/dataset.h>
#include <tutti/core/random.h>

#include <memory>
#include <vector>

namespace tutti {

/// Where labelled images of one size come from. All members may be called from several threads at once.
class ImageSource {
 public:
  virtual ~ImageSource() = default;
  [[nodiscard]] virtual int64_t size() const = 0;
  [[nodiscard]] virtual int64_t classes() const = 0;
  /// (H, W, C).
  [[nodiscard]] virtual Shape image_shape() const = 0;
  /// Class of an image, in [0, classes()).
  [[nodiscard]] virtual int32_t label(int64_t id) const = 0;
  /// Copies the H * W * C pixels of an image to `pixels`. `augment`, if any, is where a source that chooses a
  /// part of a larger picture draws from: blocks 1 and up, block 0 is the data set's.
  virtual void load(int64_t id, std::span<uint8_t> pixels, const RandomKey* augment) const = 0;
  /// See Dataset::content.
  [[nodiscard]] virtual DataContent content() const { return {}; }
};

/// How pixels become inputs.
struct ImageConfig {
  int64_t crop_padding = 0;  ///< training: black border to crop from, in pixels
  bool flip = false;         ///< training: mirrors half of the images, left to right
  std::vector<double> mean;  ///< of pixels in [0, 1]: one for all channels, or one each
  std::vector<double> deviation;

  void describe(Fields& f);
};

enum class Augment : uint8_t { kOff, kOn };

/// Classification of images: inputs (B, H, W, C) fp32, (pixel / 255 - mean) / deviation; targets (B) int32.
/// Augmentation draws from RandomKey{seed, epoch, sample id}, so a sample looks the same at every batch size
/// and number of ranks, and different in each epoch.
class ImageDataset final : public Dataset {
 public:
  /// Throws Error unless mean and deviation have none, one, or one value a channel.
  ImageDataset(std::unique_ptr<const ImageSource> source, const ImageConfig& config, Augment augment);

  [[nodiscard]] int64_t size() const override { return source_->size(); }
  [[nodiscard]] Shape sample_shape() const override { return source_->image_shape(); }
  [[nodiscard]] int64_t classes() const override { return source_->classes(); }
  [[nodiscard]] int64_t predictions(int64_t) const override { return 1; }
  [[nodiscard]] DataContent content() const override { return source_->content(); }
  [[nodiscard]] Batch read(std::span<const int64_t> ids, AugmentKey key, const Stream& stream) const override;

 private:
  void read_one(int64_t id, AugmentKey key, std::span<float> out) const;

  std::unique_ptr<const ImageSource> source_;
  bool augmented_ = false;
  int64_t crop_padding_ = 0;
  bool flip_ = false;
  std::vector<float> values_;  // (channels, 256): the input that each pixel value becomes
};

}  // namespace tutti
