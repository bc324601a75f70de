#pragma once

#include <tutti/core/checkpoint/safetensors.h>

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// A model's weights in one or several safetensors files, as Hugging Face lays them out.
class ModelFiles {
 public:
  /// `path` is a `.safetensors` file, an index (`*.safetensors.index.json`), or a directory that holds
  /// `model.safetensors.index.json` or `model.safetensors`. Throws Error naming the file and tensor if one is
  /// missing, stands in two files, or in another file than the index says, and if a directory holds both a
  /// single file and an index of others, or an adapter.
  static ModelFiles open(const std::filesystem::path& path);

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  /// All tensors' names, sorted.
  [[nodiscard]] std::vector<std::string> names() const;
  [[nodiscard]] bool contains(std::string_view name) const { return where_.contains(name); }
  /// Throws Error that names the closest name if there is none.
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

/// The index of a model in several files: tensor -> file name. Throws Error naming `name` if it is not one.
std::map<std::string, std::string> parse_model_index(std::string_view text, const std::string& name);
/// The inverse. `total_bytes` is the size of all tensors.
std::string model_index(const std::map<std::string, std::string>& files, int64_t total_bytes);

}  // namespace tutti
