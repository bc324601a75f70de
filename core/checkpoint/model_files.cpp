#include <tutti/core/checkpoint/model_files.h>
#include <tutti/core/error.h>
#include "core/config/nearest.h"
#include "core/io/json.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>

namespace tutti {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kMaxIndexBytes = int64_t{64} << 20;
constexpr std::string_view kAdapterName = "adapter_config.json";

[[noreturn]] void refuse_pickle(const fs::path& file) {
  fail(
      "{}: is a PyTorch pickle, which can run arbitrary code when it is read; expected safetensors. In "
      "Python, write them with transformers' from_pretrained(..).save_pretrained(..), or "
      "safetensors.torch.save_file",
      file.string());
}

/// The index or weight file of a model at `path`.
fs::path resolve(const fs::path& path) {
  if (!fs::is_directory(path)) return path;
  // transformers adds the adapter to the weights.
  require(!fs::exists(path / kAdapterName),
          "{}: contains {}: adapters are not supported; merge it into the weights (PEFT's merge_and_unload) "
          "or remove it",
          path.string(), kAdapterName);
  for (const std::string_view name : {kModelIndexName, kModelFileName}) {
    if (fs::exists(path / name)) return path / name;
  }
  for (const char* const pickled :
       {"pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth"}) {
    if (fs::exists(path / pickled)) refuse_pickle(path / pickled);
  }
  fail("{}: contains neither {} nor {}", path.string(), kModelIndexName, kModelFileName);
}

/// PyTorch's archives are ZIP files of pickles, its old files pickles.
void check_is_no_pickle(const fs::path& file) {
  if (file.extension() == ".json" || !fs::is_regular_file(file)) return;
  const auto mapped = MappedFile::open(file);
  const std::span<const std::byte> bytes = mapped->bytes();
  const auto starts = [&](std::string_view magic) {
    return bytes.size() >= magic.size() && std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
  };
  if (bytes.size() > 8 && static_cast<char>(bytes[8]) == '{') return;  // a header length may look like one
  if (starts("PK\x03\x04") || starts("\x80\x02")) refuse_pickle(file);
}

}  // namespace

std::map<std::string, std::string> parse_model_index(std::string_view text, const std::string& name) {
  const nlohmann::json json = parse_strict_json(text, name);
  require(json.is_object() && json.contains("weight_map") && json["weight_map"].is_object(),
          "{}: not a model index: it has no weight_map", name);
  std::map<std::string, std::string> files;
  for (const auto& [tensor, file] : json["weight_map"].items()) {
    require(file.is_string() && is_plain_file_name(file.get_ref<const std::string&>()),
            "{}: tensor '{}' is in {}, which is not a file name", name, tensor, file.dump());
    files.emplace(tensor, file.get<std::string>());
  }
  return files;
}

std::string model_index(const std::map<std::string, std::string>& files, int64_t total_bytes) {
  const nlohmann::json json = {{"metadata", {{"total_size", total_bytes}}}, {"weight_map", files}};
  return json.dump(1) + "\n";
}

ModelFiles ModelFiles::open(const fs::path& path) {
  ModelFiles model;
  model.path_ = path;
  const fs::path file = resolve(path);
  check_is_no_pickle(file);
  if (file.extension() != ".json") {
    model.files_.push_back(SafetensorsFile::open(file));
    for (const SafetensorsEntry& entry : model.files_[0].entries()) model.where_.emplace(entry.name, 0);
    return model;
  }
  const auto index = parse_model_index(read_text_file(file, kMaxIndexBytes), file.string());
  // transformers reads the single file and ignores the index.
  if (fs::is_directory(path) && fs::exists(path / kModelFileName)) {
    const auto elsewhere =
        std::ranges::find_if(index, [](const auto& at) { return at.second != kModelFileName; });
    require(
        elsewhere == index.end(),
        "{}: contains {} and {}, which lists other files: they may belong to two models; remove one of them",
        path.string(), kModelFileName, kModelIndexName);
  }
  std::map<std::string, size_t> opened;
  for (const auto& [tensor, name] : index) {
    const auto [at, fresh] = opened.emplace(name, model.files_.size());
    if (fresh) model.files_.push_back(SafetensorsFile::open(file.parent_path() / name));
    require(model.files_[at->second].find(tensor) != nullptr,
            "{}: tensor '{}' is not in {}, contrary to the index", file.string(), tensor, name);
    model.where_.emplace(tensor, at->second);
  }
  for (size_t i = 0; i < model.files_.size(); ++i) {
    for (const SafetensorsEntry& entry : model.files_[i].entries()) {
      const auto found = model.where_.find(entry.name);
      require(found != model.where_.end() && found->second == i,
              "{}: contains tensor '{}', contrary to the index", model.files_[i].path().string(), entry.name);
    }
  }
  return model;
}

std::vector<std::string> ModelFiles::names() const {
  std::vector<std::string> names;
  names.reserve(where_.size());
  for (const auto& [tensor, file] : where_) names.push_back(tensor);
  return names;
}

const SafetensorsFile& ModelFiles::file_of(std::string_view name) const {
  const auto found = where_.find(name);
  require(found != where_.end(), "{}: has no tensor '{}'{}", path_.string(), name,
          did_you_mean(name, names()));
  return files_[found->second];
}

const SafetensorsEntry& ModelFiles::at(std::string_view name) const {
  return file_of(name).at(name);
}

Tensor ModelFiles::tensor(std::string_view name) const {
  return file_of(name).tensor(name);
}

}  // namespace tutti
