#pragma once

#include <tutti/core/data/dataset.h>
#include <tutti/core/data/image_settings.h>
#include <tutti/core/random.h>

#include <memory>
#include <string>
#include <vector>

namespace tutti {

/// A source of labelled images of one size. Thread-safe.
class ImageSource {
 public:
  virtual ~ImageSource() = default;
  [[nodiscard]] virtual int64_t size() const = 0;
  [[nodiscard]] virtual int64_t classes() const = 0;
  /// (H, W, C).
  [[nodiscard]] virtual Shape image_shape() const = 0;
  /// Class of an image, in [0, classes()).
  [[nodiscard]] virtual int32_t label(int64_t id) const = 0;
  /// The name of an image in skip lists and messages: its number, unless there is a better name.
  [[nodiscard]] virtual std::string name(int64_t id) const { return std::to_string(id); }
  /// The numbers of the images with these names (sorted), in order. Throws Error with an unknown name.
  [[nodiscard]] virtual std::vector<int64_t> find(const std::vector<std::string>& names) const;
  /// The location of the images, for messages.
  [[nodiscard]] virtual std::string place() const { return "images"; }
  /// Short description of other files that were found; empty if there are none.
  [[nodiscard]] virtual std::string left_out() const { return {}; }
  /// Copies the H * W * C pixels of an image to `pixels`. `augment`, if any, is the random key for a source
  /// that crops larger pictures: it uses blocks 1 and up; block 0 is used by the data set.
  virtual void load(int64_t id, std::span<uint8_t> pixels, const RandomKey* augment) const = 0;
  /// See Dataset::content.
  [[nodiscard]] virtual DataContent content() const { return {}; }
};

/// Whether samples are for training: augmented, and skipped ones replaced.
enum class Augment : uint8_t { kOff, kOn };

/// Classification of images: inputs (B, H, W, C) fp32, (pixel / 255 - mean) / deviation; targets (B) int32.
/// Augmentation draws from RandomKey{seed, epoch, sample id}, so a sample is the same for every batch size
/// and number of ranks, and different in each epoch.
///
/// Samples may be skipped: they keep their numbers, so that the order of all others does not change. In
/// training, a skipped image is replaced by another one, drawn by (seed, epoch, sample id) and augmented with
/// the skipped one's key; in validation its target is -1 and it is not counted.
class ImageDataset final : public Dataset {
 public:
  /// `skip` contains names of ImageSource::name, sorted; `damage_advice` is appended to the message of a
  /// DamagedSample. Throws Error unless mean and deviation have none, one, or one value per channel; if a
  /// name is unknown; or if no image is left.
  ImageDataset(std::unique_ptr<const ImageSource> source, const ImageConfig& config, Augment augment,
               const std::vector<std::string>& skip = {}, std::string damage_advice = {});

  [[nodiscard]] int64_t size() const override { return source_->size(); }
  [[nodiscard]] Shape sample_shape() const override { return source_->image_shape(); }
  [[nodiscard]] int64_t classes() const override { return source_->classes(); }
  [[nodiscard]] int64_t predictions(int64_t id) const override;
  [[nodiscard]] std::string description() const override;
  [[nodiscard]] DataContent content() const override { return source_->content(); }
  [[nodiscard]] Batch read(std::span<const int64_t> ids, AugmentKey key, const Stream& stream) const override;

 private:
  [[nodiscard]] bool skips(int64_t id) const;
  /// The replacement of a skipped image.
  [[nodiscard]] int64_t stand_in(int64_t id, AugmentKey key) const;
  /// Reads `image` as sample `id`, which it is or replaces.
  void read_one(int64_t id, int64_t image, AugmentKey key, std::span<float> out) const;

  std::unique_ptr<const ImageSource> source_;
  std::vector<int64_t> skipped_;  // sorted
  std::string damage_advice_;
  bool training_ = false;
  int64_t crop_padding_ = 0;
  bool flip_ = false;
  std::vector<float> values_;  // (channels, 256): the input for each pixel value
};

}  // namespace tutti
