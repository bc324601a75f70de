#include <tutti/core/checkpoint/checkpoint.h>
#include <tutti/core/checkpoint/model_files.h>
#include <tutti/core/checkpoint/safetensors.h>
#include <tutti/core/error.h>

#include <algorithm>
#include <numeric>

namespace tutti {
namespace {

/// Assigns each whole tensor to a rank: largest first, each to the rank with the least data so far, so that
/// files have nearly the same size. The assignment depends only on the list, which is the same on all ranks.
std::vector<int> writers(std::span<const StateTensor> tensors, int ranks) {
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return tensors[a].data.bytes() > tensors[b].data.bytes(); });
  std::vector<int64_t> load(static_cast<size_t>(ranks), 0);
  std::vector<int> writer(tensors.size(), -1);
  for (const size_t i : order) {
    if (tensors[i].sharding == Sharding::kSharded) continue;
    const auto least = std::min_element(load.begin(), load.end());
    writer[i] = static_cast<int>(least - load.begin());
    // An empty tensor counts too: otherwise one rank would get all of them.
    *least += std::max<int64_t>(tensors[i].data.bytes(), 1);
  }
  return writer;
}

/// model.safetensors, model-00002-of-00004.safetensors, optimizer-00001-of-00001.safetensors.
std::string file_name(const std::string& group, int rank, int files) {
  if (group == "model" && files == 1) return std::string(kModelFileName);
  return fmt::format("{}-{:05}-of-{:05}.safetensors", group, rank + 1, files);
}

/// Streams one tensor's data into the file and returns the checksums of its blocks.
std::vector<std::string> write_data(SafetensorsWriter& writer, const Tensor& anywhere) {
  const Tensor tensor = anywhere.on_host();
  std::span<const std::byte> rest(static_cast<const std::byte*>(tensor.raw()),
                                  static_cast<size_t>(tensor.bytes()));
  std::vector<std::string> sums;
  while (!rest.empty()) {
    const auto block = rest.first(std::min(rest.size(), static_cast<size_t>(kChecksumBlock)));
    sums.push_back(sha256(block).substr(0, 16));
    writer.write(block);
    rest = rest.subspan(block.size());
  }
  return sums;
}

}  // namespace

Manifest write_group(const std::filesystem::path& dir, const std::string& group,
                     std::span<const StateTensor> tensors, ShardOf rank) {
  Manifest part;
  Manifest::Group& map = part.groups[group];
  const std::vector<int> writer_of = writers(tensors, rank.ranks);
  std::vector<SafetensorsWriter::Spec> specs;
  std::map<std::string_view, const StateTensor*> mine;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const StateTensor& tensor = tensors[i];
    const bool sharded = tensor.sharding == Sharding::kSharded;
    // Every rank lists every tensor, so that tensors without elements are included.
    if (writer_of[i] == rank.rank || sharded) map[tensor.name] = {tensor.data.dtype(), tensor.shape, {}};
    if (sharded ? tensor.data.numel() == 0 : writer_of[i] != rank.rank) continue;
    const Shape shape = sharded ? Shape{tensor.data.numel()} : tensor.shape;
    specs.push_back({tensor.name, std::string(safetensors_dtype(tensor.data.dtype())), shape});
    mine.emplace(tensor.name, &tensor);
  }
  if (specs.empty()) return part;

  // All ranks compute the number of files without communication: whole tensors go to the first ranks.
  const bool any_sharded = std::any_of(tensors.begin(), tensors.end(), [](const auto& tensor) {
    return tensor.sharding == Sharding::kSharded;
  });
  const int files = any_sharded ? rank.ranks : std::min(rank.ranks, static_cast<int>(tensors.size()));
  const std::string file = file_name(group, rank.rank, files);
  // Other readers require "pt" to accept the file as weights.
  SafetensorsWriter writer(dir / file, std::move(specs), {{"format", "pt"}});
  for (const SafetensorsEntry& entry : writer.order()) {
    const StateTensor& tensor = *mine.at(entry.name);
    const int64_t begin = tensor.sharding == Sharding::kSharded ? tensor.begin : 0;
    map[entry.name].pieces.push_back({file, writer.data_begin() + entry.begin, begin,
                                      begin + tensor.data.numel(), write_data(writer, tensor.data)});
  }
  writer.finish();
  part.files[file] = {writer.bytes(), writer.sha256()};
  return part;
}

}  // namespace tutti
