#pragma once

#include <tutti/core/data/image_dataset.h>

#include <filesystem>
#include <string>
#include <vector>

namespace tutti {

struct ImageFolderConfig {
  int64_t size = 224;  ///< height and width of the samples
  int64_t resize = 0;  ///< shorter side before the middle is cropped out; 0: `size`
  int64_t channels = 3;
  double crop_area = 1;  ///< training: least share of the picture in a random crop; 1: no such crops

  void describe(Fields& f);
};

/// A directory with one folder of JPEG and PNG files for each class. Classes are the folders in byte order of
/// their names, or those of other data, of which some may be missing; samples are the files in byte order. An
/// image is resized so that its shorter side is `config.resize`, then its middle is taken. In training, with
/// `config.crop_area` below 1, a random part of it is scaled to the sample instead: of an area from that
/// share to the whole and an aspect from 3:4 to 4:3 (Szegedy et al. 2015, section 6). Files are decoded when
/// they are read.
class ImageFolder final : public ImageSource {
 public:
  /// `classes` are the names of classes 0, 1, ..., where other data has numbered them. Throws Error naming
  /// the directory if it is missing, has no folders, one without images, or one that is none of `classes`.
  ImageFolder(const std::filesystem::path& directory, const ImageFolderConfig& config,
              std::vector<std::string> classes = {});

  /// The names of the classes in a directory, in their order. Throws Error if it cannot be read.
  static std::vector<std::string> class_names(const std::filesystem::path& directory);

  [[nodiscard]] int64_t size() const override { return static_cast<int64_t>(files_.size()); }
  [[nodiscard]] int64_t classes() const override { return static_cast<int64_t>(names_.size()); }
  [[nodiscard]] Shape image_shape() const override { return {config_.size, config_.size, config_.channels}; }
  [[nodiscard]] int32_t label(int64_t id) const override { return files_[static_cast<size_t>(id)].label; }
  /// Throws Error naming the file if it cannot be read or decoded.
  void load(int64_t id, std::span<uint8_t> pixels, const RandomKey* augment) const override;
  [[nodiscard]] DataContent content() const override;
  /// Names of the classes.
  [[nodiscard]] const std::vector<std::string>& names() const noexcept { return names_; }

 private:
  struct File {
    std::filesystem::path path;
    int32_t label;
  };
  std::filesystem::path directory_;
  ImageFolderConfig config_;
  std::vector<std::string> names_;
  std::vector<File> files_;
};

}  // namespace tutti
