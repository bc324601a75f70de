#pragma once

#include <tutti/core/data/image_dataset.h>
#include <tutti/core/data/image_settings.h>

#include <filesystem>
#include <string>
#include <vector>

namespace tutti {

/// An entry of a directory of images that is not a sample.
struct LeftOutFile {
  std::string name;    ///< below the directory
  std::string reason;  ///< "dangling link"
};

/// A directory with one folder of JPEG, PNG and WebP files for each class. Classes are the folders in byte
/// order of their names, or those of other data, of which some may be missing; samples are the files in byte
/// order. An image is resized so that its shorter side is `config.resize`, then its centre is cropped. In
/// training, with `config.crop_area` below 1, a random part of it is scaled to the sample instead: of an area
/// from that fraction to the whole and an aspect from 3:4 to 4:3 (Szegedy et al. 2015, section 6). Files are
/// decoded when they are read.
///
/// Samples are the files whose names end with .jpg, .jpeg, .png or .webp in any case, regular or linked to.
/// Other files are counted by reason; an empty or damaged image is a sample, to be listed in a skip list.
class ImageFolder final : public ImageSource {
 public:
  /// `classes` are the names of classes 0, 1, ..., if other data has numbered them. Files in `skip`, named
  /// CLASS/FILE, have a number even if they are missing. Throws Error naming the directory if it is missing,
  /// has no folders, or has a folder without images or one that is not in `classes`; or naming an entry of
  /// `skip` that cannot be an image.
  ImageFolder(const std::filesystem::path& directory, const ImageFolderConfig& config,
              std::vector<std::string> classes = {}, const std::vector<std::string>& skip = {});

  /// The names of the classes in a directory, in their order. Throws Error if it cannot be read.
  static std::vector<std::string> class_names(const std::filesystem::path& directory);

  [[nodiscard]] int64_t size() const override { return static_cast<int64_t>(files_.size()); }
  [[nodiscard]] int64_t classes() const override { return static_cast<int64_t>(names_.size()); }
  [[nodiscard]] Shape image_shape() const override { return {config_.size, config_.size, config_.channels}; }
  [[nodiscard]] int32_t label(int64_t id) const override { return files_[static_cast<size_t>(id)].label; }
  /// CLASS/FILE.
  [[nodiscard]] std::string name(int64_t id) const override;
  [[nodiscard]] std::vector<int64_t> find(const std::vector<std::string>& names) const override;
  [[nodiscard]] std::string place() const override { return directory_.string(); }
  [[nodiscard]] std::string left_out() const override;
  [[nodiscard]] const std::vector<LeftOutFile>& left_out_files() const noexcept { return left_out_; }
  /// The names in `skip` without a file, each of which keeps its number.
  [[nodiscard]] const std::vector<std::string>& missing_files() const noexcept { return missing_; }
  /// The file of an image.
  [[nodiscard]] const std::filesystem::path& path(int64_t id) const {
    return files_[static_cast<size_t>(id)].path;
  }
  /// Throws Error naming the file if it cannot be read or decoded.
  void load(int64_t id, std::span<uint8_t> pixels, const RandomKey* augment) const override;
  [[nodiscard]] DataContent content() const override;
  /// Names of the classes.
  [[nodiscard]] const std::vector<std::string>& names() const noexcept { return names_; }

 private:
  struct File {
    std::filesystem::path path;
    int32_t label;
    bool is_there = true;
  };
  /// The position of an image among the files by folder and name; where it would be if it is missing.
  [[nodiscard]] std::vector<File>::const_iterator position(std::string_view name) const;
  void add_class(const std::filesystem::path& folder, int32_t label);
  void keep_place(const std::string& name);

  std::filesystem::path directory_;
  ImageFolderConfig config_;
  std::vector<std::string> names_;
  std::vector<File> files_;  // by label, then by name
  std::vector<LeftOutFile> left_out_;
  std::vector<std::string> missing_;  // missing files of the skip list
};

}  // namespace tutti
