#pragma once

#include <tutti/core/data/image_dataset.h>
#include <tutti/core/tensor.h>

#include <filesystem>
#include <string>
#include <vector>

namespace tutti {

/// An IDX file of unsigned bytes: sizes and values. Source: LeCun et al., "The MNIST database".
struct IdxArray {
  Shape shape;
  std::vector<uint8_t> values;
};

/// Reads an IDX file of `dims` dims, which may be gzipped. Throws Error naming `name` if it is empty, has
/// another magic number, element type or number of dims, or is shorter or longer than its header declares.
/// Memory use is bounded by the actual data, not by the header.
IdxArray parse_idx(std::span<const std::byte> file, int dims, const std::string& name);

/// Images (N, H, W) of one IDX file with the labels (N) of another.
class IdxImages final : public ImageSource {
 public:
  /// Throws Error naming the files if their numbers of images and labels differ, or if there is no image.
  IdxImages(const std::filesystem::path& images, const std::filesystem::path& labels);
  /// The files of a directory, named as MNIST's: `prefix` ("train" or "t10k") followed by -images-idx3-ubyte
  /// and -labels-idx1-ubyte, with .gz or without.
  static std::unique_ptr<IdxImages> from_directory(const std::filesystem::path& directory,
                                                   const std::string& prefix);

  [[nodiscard]] int64_t size() const override { return images_.shape[0]; }
  /// One more than the largest label.
  [[nodiscard]] int64_t classes() const override { return classes_; }
  [[nodiscard]] Shape image_shape() const override { return {images_.shape[1], images_.shape[2], 1}; }
  [[nodiscard]] int32_t label(int64_t id) const override;
  void load(int64_t id, std::span<uint8_t> pixels, const RandomKey* augment) const override;
  [[nodiscard]] DataContent content() const override { return content_of_files(paths_); }

 private:
  std::vector<std::filesystem::path> paths_;
  IdxArray images_, labels_;
  int64_t classes_ = 0;
};

}  // namespace tutti
