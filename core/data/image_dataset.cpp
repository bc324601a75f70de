#include <tutti/core/data/image_dataset.h>
#include <tutti/core/error.h>
#include <tutti/core/random.h>
#include "core/counted.h"

#include <algorithm>
#include <charconv>

namespace tutti {
namespace {

double of_channel(const std::vector<double>& values, int64_t channel, double otherwise) {
  if (values.empty()) return otherwise;
  return values.size() == 1 ? values.front() : values[static_cast<size_t>(channel)];
}

/// Uniform in 0 .. n - 1.
int64_t below(uint32_t word, int64_t n) {
  return static_cast<int64_t>((static_cast<uint64_t>(word) * static_cast<uint64_t>(n)) >> 32);
}

}  // namespace

std::vector<int64_t> ImageSource::find(const std::vector<std::string>& names) const {
  std::vector<int64_t> ids;
  for (const std::string& text : names) {
    int64_t id = -1;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
    require(error == std::errc{} && end == text.data() + text.size() && id >= 0 && id < size(),
            "data.skip: '{}' is not a sample of {}; expected a number below {}", text, place(), size());
    ids.push_back(id);
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

void ImageConfig::describe(Fields& f) {
  f.value("crop_padding", crop_padding, "training: pad with this many black pixels, then crop at random",
          between(0, 1024));
  f.value("flip", flip, "training: flip images horizontally with probability 1/2");
  f.value("mean", mean, "subtracted from pixels in [0, 1]; one value, or one per channel");
  f.value("deviation", deviation, "divisor after the mean is subtracted; one value, or one per channel",
          positive());
}

ImageDataset::ImageDataset(std::unique_ptr<const ImageSource> source, const ImageConfig& config,
                           Augment augment, const std::vector<std::string>& skip, std::string damage_advice)
    : source_(std::move(source)), skipped_(source_->find(skip)), damage_advice_(std::move(damage_advice)) {
  check_settings(config, "data.image");
  const int64_t channels = source_->image_shape().back();
  for (const auto* values : {&config.mean, &config.deviation}) {
    const auto count = static_cast<int64_t>(values->size());
    require(count <= 1 || count == channels,
            "data: {} values of mean or deviation for images of {} channels: give one, or one per channel",
            count, channels);
  }
  require(static_cast<int64_t>(skipped_.size()) < size(), "data.skip: skips all {} images of {}", size(),
          source_->place());
  if (augment == Augment::kOn) {
    training_ = true;
    crop_padding_ = config.crop_padding;
    flip_ = config.flip;
  }
  values_.resize(static_cast<size_t>(channels) * 256);
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t pixel = 0; pixel < 256; ++pixel) {
      const double value = (static_cast<double>(pixel) / 255 - of_channel(config.mean, c, 0)) /
                           of_channel(config.deviation, c, 1);
      values_[static_cast<size_t>(c * 256 + pixel)] = static_cast<float>(value);
    }
  }
}

Batch ImageDataset::read(std::span<const int64_t> ids, AugmentKey key, const Stream& stream) const {
  const auto rows = static_cast<int64_t>(ids.size());
  Shape shape{rows};
  for (const int64_t size : source_->image_shape()) shape.push_back(size);
  Batch batch{Tensor::empty(shape, DType::kFloat32, stream), Tensor::empty({rows}, DType::kInt32, stream)};
  const std::span<float> inputs = batch.inputs.span<float>();
  const std::span<int32_t> targets = batch.targets.span<int32_t>();
  const auto image_size = static_cast<size_t>(numel(source_->image_shape()));
  stream.pool().parallel_for(rows, [&](int64_t row) {
    const auto r = static_cast<size_t>(row);
    require(ids[r] >= 0 && ids[r] < size(), "image data: sample {} of {}", ids[r], size());
    const std::span<float> pixels = inputs.subspan(r * image_size, image_size);
    const bool skipped = skips(ids[r]);
    if (skipped && !training_) {
      targets[r] = -1;
      std::fill(pixels.begin(), pixels.end(), 0.0F);
      return;
    }
    const int64_t image = skipped ? stand_in(ids[r], key) : ids[r];
    targets[r] = source_->label(image);
    read_one(ids[r], image, key, pixels);
  });
  return batch;
}

bool ImageDataset::skips(int64_t id) const {
  return std::binary_search(skipped_.begin(), skipped_.end(), id);
}

int64_t ImageDataset::predictions(int64_t id) const {
  return training_ || !skips(id) ? 1 : 0;
}

int64_t ImageDataset::stand_in(int64_t id, AugmentKey key) const {
  const RandomKey random{.seed = key.seed,
                         .tensor = stable_hash("data.stand_in"),
                         .step = key.epoch,
                         .sample = static_cast<uint64_t>(id)};
  // Uniform over the remaining images: the k-th of them, found by counting the skipped ones before it.
  const auto words = random.words(0);
  const auto left = static_cast<uint64_t>(size() - static_cast<int64_t>(skipped_.size()));
  auto image = static_cast<int64_t>((static_cast<uint64_t>(words[0]) << 31 | words[1] >> 1) % left);
  for (const int64_t skipped : skipped_) {
    if (skipped > image) break;
    ++image;
  }
  return image;
}

std::string ImageDataset::description() const {
  std::string text =
      fmt::format("{} in {}", counted(size(), "image"), counted(classes(), "class", "classes"));
  if (!skipped_.empty()) {
    text += fmt::format("; data.skip skips {}{}", counted(static_cast<int64_t>(skipped_.size()), "image"),
                        training_ ? ", replaced by others" : "");
  }
  if (const std::string more = source_->left_out(); !more.empty()) text += "; " + more;
  return text;
}

void ImageDataset::read_one(int64_t id, int64_t image, AugmentKey key, std::span<float> out) const {
  const Shape shape = source_->image_shape();
  const int64_t height = shape[0];
  const int64_t width = shape[1];
  const int64_t channels = shape[2];
  const RandomKey random{.seed = key.seed,
                         .tensor = stable_hash("data.augment"),
                         .step = key.epoch,
                         .sample = static_cast<uint64_t>(id)};
  std::vector<uint8_t> pixels(out.size());
  try {
    source_->load(image, pixels, training_ ? &random : nullptr);
  } catch (const Error& error) {
    throw DamagedSample(fmt::format("{} (sample {} of the {} data){}", error.what(), image,
                                    training_ ? "training" : "validation", damage_advice_));
  }
  const auto words = random.words(0);
  const int64_t down = below(words[0], 2 * crop_padding_ + 1) - crop_padding_;
  const int64_t right = below(words[1], 2 * crop_padding_ + 1) - crop_padding_;
  const bool mirrored = flip_ && (words[2] >> 31) != 0;
  float* to = out.data();
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      const int64_t from_y = y + down;
      const int64_t from_x = (mirrored ? width - 1 - x : x) + right;
      const bool inside = from_y >= 0 && from_y < height && from_x >= 0 && from_x < width;
      const uint8_t* from = pixels.data() + (from_y * width + from_x) * channels;
      for (int64_t c = 0; c < channels; ++c)
        *to++ = values_[static_cast<size_t>(c * 256 + (inside ? from[c] : 0))];
    }
  }
}

}  // namespace tutti
