#include "launcher/run/exported.h"

#include <tutti/core/checkpoint/model_files.h>
#include <tutti/core/checkpoint/safetensors.h>
#include <tutti/core/error.h>
#include "core/io/json.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

namespace tutti {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// Lists the files of an export, so that the next one replaces only them.
constexpr std::string_view kRecord = "tutti-export.json";

// transformers refuses files without it.
const std::map<std::string, std::string> kMetadata{{"format", "pt"}};

void add_text(DirectoryTarget& target, const std::string& name, const std::string& text) {
  OutputFile file = target.add(name);
  file.write(text);
  file.finish();
}

/// Divides the tensors into files of at most `most` bytes, or of one tensor.
std::vector<std::vector<std::pair<std::string, Tensor>>> shards_of(
    std::vector<std::pair<std::string, Tensor>> tensors, int64_t most) {
  std::vector<std::vector<std::pair<std::string, Tensor>>> shards(1);
  int64_t bytes = 0;
  for (auto& [name, tensor] : tensors) {
    const int64_t size = tensor.numel() * size_of(tensor.dtype());
    if (!shards.back().empty() && bytes + size > most) {
      shards.emplace_back();
      bytes = 0;
    }
    bytes += size;
    shards.back().emplace_back(name, tensor);
  }
  return shards;
}

void add_weights(DirectoryTarget& target, std::vector<std::pair<std::string, Tensor>> tensors, int64_t most) {
  const auto shards = shards_of(std::move(tensors), most);
  if (shards.size() == 1)
    return write_safetensors(target.add(std::string(kModelFileName)), shards[0], kMetadata);
  std::map<std::string, std::string> index;
  int64_t total = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    for (const auto& [tensor_name, tensor] : shards[i]) {
      index[tensor_name] = name;
      total += tensor.numel() * size_of(tensor.dtype());
    }
    write_safetensors(target.add(name), shards[i], kMetadata);
  }
  add_text(target, std::string(kModelIndexName), model_index(index, total));
}

/// The tokens that documents begin and end with.
struct Marks {
  std::optional<int32_t> begin, end;
};

Marks marks_of(const Tokenizer& tokenizer) {
  const std::optional<int32_t> end = tokenizer.end_of_text();
  return {tokenizer.before().empty() ? end : std::optional(tokenizer.before().front()), end};
}

void add_tokenizer(DirectoryTarget& target, const TokenizerFolder& from, int64_t context) {
  constexpr int64_t kMostBytes = int64_t{64} << 20;
  add_text(target, "tokenizer.json", from.tokenizer.to_json());
  std::error_code none;
  if (fs::exists(from.folder / "tokenizer_config.json", none)) {
    for (const char* const name : {"tokenizer_config.json", "special_tokens_map.json"}) {
      if (fs::exists(from.folder / name, none))
        add_text(target, name, read_text_file(from.folder / name, kMostBytes));
    }
    return;
  }
  Json config{{"tokenizer_class", "PreTrainedTokenizerFast"},
              {"model_max_length", context},
              {"clean_up_tokenization_spaces", false}};
  Json special = Json::object();
  const Marks marks = marks_of(from.tokenizer);
  for (const auto& [role, id] : {std::pair{"bos_token", marks.begin}, {"eos_token", marks.end}}) {
    if (id) config[role] = special[role] = from.tokenizer.decode({&*id, 1});
  }
  add_text(target, "tokenizer_config.json", config.dump(2) + "\n");
  add_text(target, "special_tokens_map.json", special.dump(2) + "\n");
}

}  // namespace

std::vector<std::string> exported_names(const fs::path& folder) {
  constexpr int64_t kMostBytes = int64_t{64} << 20;
  std::error_code none;
  if (!fs::is_regular_file(folder / kRecord, none)) return {};
  std::vector<std::string> names{std::string(kRecord)};
  try {
    const auto record =
        parse_strict_json(read_text_file(folder / kRecord, kMostBytes), (folder / kRecord).string());
    for (const auto& name : record.at("files")) names.push_back(name.get<std::string>());
  } catch (const std::exception&) {
    return {};  // not a record: not changed
  }
  std::erase_if(names, [&](const std::string& name) {
    return !is_plain_file_name(name) || !fs::exists(folder / name, none);
  });
  return names;
}

std::vector<std::pair<std::string, Tensor>> tensors_to_export(const RunModel& run, DType dtype,
                                                              const Stream& stream) {
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const NamedTensor& named : export_tensors(run.task->model(), run.groups, stream)) {
    const Tensor converted = named.tensor.to(dtype, stream);
    if (dtype == DType::kFloat16) {
      const Tensor back = converted.to(DType::kFloat32, stream).to_contiguous(stream);
      const Tensor whole = named.tensor.to(DType::kFloat32, stream).to_contiguous(stream);
      const bool overflows =
          !std::ranges::equal(back.view({-1}).span<float>(), whole.view({-1}).span<float>(),
                              [](float a, float b) { return std::isfinite(a) || !std::isfinite(b); });
      require(!overflows, "{}: has values above the largest of fp16, 65504; export bf16 or fp32", named.name);
    }
    tensors.emplace_back(named.name, converted.to_contiguous(stream));
  }
  return tensors;
}

void export_folder(DirectoryTarget& target, const RunModel& run,
                   const std::optional<TokenizerFolder>& tokenizer, const FolderExport& options,
                   const Stream& stream) {
  const auto* const gpt = dynamic_cast<const Gpt*>(&run.task->model());
  require(gpt != nullptr,
          "--out: model.kind {} has no class in transformers; use a name that ends in .safetensors to export "
          "only its weights",
          run.settings.model.kind);
  HuggingFaceExport about{.dtype = options.dtype, .begin_token = {}, .end_token = {}};
  if (tokenizer) {
    const Marks marks = marks_of(tokenizer->tokenizer);
    about.begin_token = marks.begin;
    about.end_token = marks.end;
  }
  const std::string config = hugging_face_config(gpt->config(), about);
  add_weights(target, tensors_to_export(run, options.dtype, stream), options.shard_bytes);
  Json generation{{"_from_model_config", true}};
  if (about.begin_token) generation["bos_token_id"] = *about.begin_token;
  if (about.end_token) generation["eos_token_id"] = *about.end_token;
  add_text(target, "generation_config.json", generation.dump(2) + "\n");
  if (tokenizer) add_tokenizer(target, *tokenizer, gpt->config().context);
  add_text(target, "config.json", config);
  Json record{{"files", target.names()}};
  add_text(target, std::string(kRecord), record.dump(2) + "\n");
}

}  // namespace tutti
