#pragma once

#include <tutti/core/data/image_dataset.h>

#include <filesystem>
#include <string>
#include <vector>

namespace tutti {

/// CIFAR-10 in its binary version: records of one label and 3 x 32 x 32 pixels, plane by plane.
/// Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images".
class CifarImages final : public ImageSource {
 public:
  /// Throws Error naming the file if one is missing, empty, not a whole number of records, or has a label
  /// above 9.
  explicit CifarImages(const std::vector<std::filesystem::path>& files);
  /// data_batch_1.bin to data_batch_5.bin of a directory.
  static std::unique_ptr<CifarImages> training(const std::filesystem::path& directory);
  /// test_batch.bin.
  static std::unique_ptr<CifarImages> test(const std::filesystem::path& directory);

  [[nodiscard]] int64_t size() const override { return static_cast<int64_t>(labels_.size()); }
  [[nodiscard]] int64_t classes() const override { return 10; }
  [[nodiscard]] Shape image_shape() const override { return {32, 32, 3}; }
  [[nodiscard]] int32_t label(int64_t id) const override { return labels_[static_cast<size_t>(id)]; }
  void load(int64_t id, std::span<uint8_t> pixels, const RandomKey* augment) const override;
  [[nodiscard]] DataContent content() const override { return content_of_files(paths_); }

 private:
  void append(std::span<const std::byte> file, const std::string& name);

  std::vector<std::filesystem::path> paths_;
  std::vector<uint8_t> labels_;
  std::vector<uint8_t> planes_;  // (N, 3, 32, 32)
};

}  // namespace tutti
