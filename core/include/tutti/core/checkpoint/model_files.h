#pragma once

#include <tutti/core/checkpoint/safetensors.h>

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// Names of the files of a model's weights: of all of them in one file, and of the list of several files.
inline constexpr std::string_view kModelFileName = "model.safetensors";
inline constexpr std::string_view kModelIndexName = "model.safetensors.index.json";

/// A model's weights in one or several safetensors files, in the layout of Hugging Face.
class ModelFiles {
 public:
  /// `path` is a `.safetensors` file, an index (`*.safetensors.index.json`), or a directory with
  /// `model.safetensors.index.json` or `model.safetensors`. Throws Error naming the file and tensor if one is
  /// missing, is in two files, or is in another file than the index lists, and if a directory contains both a
  /// single file and an index of others, or an adapter.
  static ModelFiles open(const std::filesystem::path& path);

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  /// The names of all tensors, sorted.
  [[nodiscard]] std::vector<std::string> names() const;
  [[nodiscard]] bool contains(std::string_view name) const { return where_.contains(name); }
  /// Throws Error with the closest name if there is no such tensor.
  [[nodiscard]] const SafetensorsEntry& at(std::string_view name) const;
  /// The tensor, read from the mapped file; see SafetensorsFile::tensor.
  [[nodiscard]] Tensor tensor(std::string_view name) const;
  [[nodiscard]] const std::vector<SafetensorsFile>& files() const noexcept { return files_; }

 private:
  [[nodiscard]] const SafetensorsFile& file_of(std::string_view name) const;
  std::filesystem::path path_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, size_t, std::less<>> where_;  // tensor -> file
};

/// Parses the index of a model in several files: tensor -> file name. Throws Error naming `name` if it is
/// invalid.
std::map<std::string, std::string> parse_model_index(std::string_view text, const std::string& name);
/// The inverse. `total_bytes` is the size of all tensors.
std::string model_index(const std::map<std::string, std::string>& files, int64_t total_bytes);

}  // namespace tutti
