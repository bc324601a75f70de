#include <tutti/core/checkpoint/safetensors.h>
#include <tutti/core/error.h>
#include "core/config/utf8.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <set>

namespace tutti {
namespace {

constexpr size_t kDataAlignment = 64;  // bytes: whole cache lines and vector registers

/// The eight bytes of the length and the header, padded with spaces.
std::string header_bytes(const SafetensorsHeader& header) {
  std::vector<std::string> parts;
  if (!header.metadata.empty()) {
    parts.push_back(fmt::format("\"__metadata__\":{}", nlohmann::json(header.metadata).dump()));
  }
  for (const SafetensorsEntry& entry : header.entries) {
    parts.push_back(fmt::format(R"({}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                                nlohmann::json(entry.name).dump(), entry.dtype, fmt::join(entry.shape, ","),
                                entry.begin, entry.end));
  }
  std::string text = fmt::format("{{{}}}", fmt::join(parts, ","));
  text.resize((8 + text.size() + kDataAlignment - 1) / kDataAlignment * kDataAlignment - 8, ' ');
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>((text.size() >> (8 * i)) & 0xff);
  return bytes + text;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(OutputFile output, std::vector<Spec> specs,
                                     const std::map<std::string, std::string>& metadata)
    : file_(std::move(output)) {
  const std::string file = file_.path().string();
  std::stable_sort(specs.begin(), specs.end(), [](const Spec& a, const Spec& b) {
    return safetensors_element_size(a.dtype) > safetensors_element_size(b.dtype);
  });
  for (const auto& [key, value] : metadata) {
    require(is_utf8(key) && is_utf8(value), "{}: the metadata '{}' are not valid UTF-8", file, key);
  }
  header_.metadata = metadata;
  std::set<std::string_view> names;
  for (Spec& spec : specs) {
    const int64_t element = safetensors_element_size(spec.dtype);
    require(element > 0, "{}: tensor '{}' has an unknown dtype '{}'", file, spec.name, spec.dtype);
    require(is_utf8(spec.name) && spec.name != "__metadata__", "{}: '{}' is not a valid tensor name", file,
            spec.name);
    require(names.insert(spec.name).second, "{}: duplicate tensor '{}'", file, spec.name);
    const int64_t bytes = element * numel(spec.shape);
    header_.entries.push_back(
        {spec.name, std::move(spec.dtype), spec.shape, data_bytes_, data_bytes_ + bytes});
    data_bytes_ += bytes;
  }
  const std::string bytes = header_bytes(header_);
  header_.data_begin = static_cast<int64_t>(bytes.size());
  hash_.update(bytes);
  file_.write(bytes);
}

void SafetensorsWriter::write(std::span<const std::byte> bytes) {
  const int64_t after = file_.bytes() + static_cast<int64_t>(bytes.size());
  require(after <= header_.data_begin + data_bytes_, "{}: more data than the header declares",
          file_.path().string());
  hash_.update(bytes);
  file_.write(bytes);
}

void SafetensorsWriter::finish() {
  require(file_.bytes() == header_.data_begin + data_bytes_,
          "{}: {} bytes of data were written; the header declares {}", file_.path().string(),
          file_.bytes() - header_.data_begin, data_bytes_);
  file_.finish();
  digest_ = hash_.finish();
}

void write_safetensors(OutputFile file, std::span<const std::pair<std::string, Tensor>> tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<SafetensorsWriter::Spec> specs;
  std::map<std::string_view, const Tensor*> by_name;
  specs.reserve(tensors.size());
  for (const auto& [name, tensor] : tensors) {
    require(tensor.defined() && tensor.contiguous(), "{}: tensor '{}' is not contiguous",
            file.path().string(), name);
    specs.push_back({name, std::string(safetensors_dtype(tensor.dtype())), tensor.shape()});
    by_name.emplace(name, &tensor);
  }
  SafetensorsWriter writer(std::move(file), std::move(specs), metadata);
  for (const SafetensorsEntry& entry : writer.order()) {
    const Tensor tensor = by_name.at(entry.name)->on_host();
    writer.write({static_cast<const std::byte*>(tensor.raw()), static_cast<size_t>(tensor.bytes())});
  }
  writer.finish();
}

void write_safetensors(const std::filesystem::path& path,
                       std::span<const std::pair<std::string, Tensor>> tensors,
                       const std::map<std::string, std::string>& metadata) {
  replace_file(path, [&](OutputFile file) { write_safetensors(std::move(file), tensors, metadata); });
}

}  // namespace tutti
