#include <tutti/core/checkpoint/checkpoint.h>
#include <tutti/core/checkpoint/safetensors.h>
#include <tutti/core/error.h>
#include <tutti/core/interruption.h>
#include "core/config/nearest.h"

#include <algorithm>
#include <cstring>
#include <set>

namespace tutti {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kMaxManifestBytes = int64_t{1} << 30;

/// A piece with names for messages.
struct Located {
  const std::string* group;
  const std::string* tensor;
  const Manifest::Entry* entry;
  const Manifest::Piece* piece;
  [[nodiscard]] int64_t end() const {
    return piece->offset + (piece->end - piece->begin) * size_of(entry->dtype);
  }
};

/// The pieces of one file in the order of their bytes.
std::vector<Located> pieces_of(const Manifest& manifest, const std::string& file) {
  std::vector<Located> pieces;
  for (const auto& [group, tensors] : manifest.groups) {
    for (const auto& [tensor, entry] : tensors) {
      for (const Manifest::Piece& piece : entry.pieces) {
        if (piece.file == file) pieces.push_back({&group, &tensor, &entry, &piece});
      }
    }
  }
  std::sort(pieces.begin(), pieces.end(),
            [](const auto& a, const auto& b) { return a.piece->offset < b.piece->offset; });
  return pieces;
}

/// What a byte of a file belongs to: "tensor 'x'", "the header".
std::string part_at(const Manifest& manifest, const std::string& file, int64_t byte) {
  for (const Located& at : pieces_of(manifest, file)) {
    if (byte < at.piece->offset) break;
    if (byte < at.end()) return fmt::format("{} tensor '{}'", *at.group, *at.tensor);
  }
  return "the header";
}

/// Locates the damage in a file whose checksum is wrong, and throws.
[[noreturn]] void report_damage(const fs::path& path, const Manifest& manifest, const std::string& file,
                                std::span<const std::byte> bytes) {
  for (const Located& at : pieces_of(manifest, file)) {
    for (size_t block = 0; block < at.piece->sums.size(); ++block) {
      const int64_t begin = at.piece->offset + static_cast<int64_t>(block) * kChecksumBlock;
      const int64_t end = std::min(begin + kChecksumBlock, at.end());
      const auto data = bytes.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
      require(sha256(data).substr(0, 16) == at.piece->sums[block],
              "{}: checksum mismatch in {} tensor '{}', bytes {} to {} of the file", path.string(), *at.group,
              *at.tensor, begin, end);
    }
  }
  fail("{}: checksum mismatch in the header", path.string());
}

/// How a tensor of the state differs from the checkpoint; "" if they agree.
std::string mismatch(const StateTensor& tensor, const Manifest::Entry& entry) {
  if (entry.shape != tensor.shape) {
    return fmt::format("'{}' has shape {} in the checkpoint, {} in this run", tensor.name,
                       to_string(entry.shape), to_string(tensor.shape));
  }
  if (entry.dtype != tensor.data.dtype()) {
    return fmt::format("'{}' is {} in the checkpoint, {} in this run", tensor.name, name(entry.dtype),
                       name(tensor.data.dtype()));
  }
  return "";
}

const Manifest::Group& group_of(const Manifest& manifest, std::string_view group) {
  static const Manifest::Group kNothing;
  const auto found = manifest.groups.find(std::string(group));
  return found == manifest.groups.end() ? kNothing : found->second;
}

/// Lists all mismatches, so that a wrong model is easy to recognise.
void check_fit(const fs::path& checkpoint, const std::string& group, const Manifest::Group& saved,
               std::span<const StateTensor> tensors) {
  constexpr size_t kMost = 8;
  std::vector<std::string> saved_names;
  saved_names.reserve(saved.size());
  for (const auto& [tensor, entry] : saved) saved_names.push_back(tensor);
  std::vector<std::string> problems;
  std::vector<std::string> names;
  for (const StateTensor& tensor : tensors) {
    names.push_back(tensor.name);
    const auto found = saved.find(tensor.name);
    std::string problem = found == saved.end()
                              ? fmt::format("'{}' is missing in the checkpoint{}", tensor.name,
                                            did_you_mean(tensor.name, saved_names))
                              : mismatch(tensor, found->second);
    if (!problem.empty()) problems.push_back(std::move(problem));
  }
  std::sort(names.begin(), names.end());
  for (const std::string& tensor : saved_names) {
    if (!std::binary_search(names.begin(), names.end(), tensor)) {
      problems.push_back(fmt::format("'{}' is only in the checkpoint", tensor));
    }
  }
  if (problems.empty()) return;
  const size_t count = problems.size();
  problems.resize(std::min(count, kMost));
  fail("{}: the {} tensors do not match this run: {}{}", checkpoint.string(), group,
       fmt::join(problems, "; "), count > kMost ? fmt::format("; and {} more", count - kMost) : "");
}

/// Copies the elements of `tensor` that `piece` contains.
void copy_piece(const SafetensorsFile& file, const Manifest::Piece& piece, const StateTensor& tensor) {
  const int64_t begin = std::max(piece.begin, tensor.begin);
  const int64_t end = std::min(piece.end, tensor.end());
  if (begin >= end) return;
  const SafetensorsEntry& entry = file.at(tensor.name);
  const int64_t element = size_of(tensor.data.dtype());
  require(entry.dtype == safetensors_dtype(tensor.data.dtype()) &&
              entry.bytes() == (piece.end - piece.begin) * element &&
              file.header().data_begin + entry.begin == piece.offset,
          "{}: tensor '{}' does not match the manifest", file.path().string(), tensor.name);
  const std::byte* const from = file.bytes(entry).data() + (begin - piece.begin) * element;
  const auto bytes = static_cast<size_t>((end - begin) * element);
  if (tensor.data.device().type == DeviceType::kCpu) {
    std::memcpy(static_cast<std::byte*>(tensor.data.raw()) + (begin - tensor.begin) * element, from, bytes);
    return;
  }
  ThreadPool one_thread(1);
  const Stream host = Stream::inline_on(one_thread);
  const Tensor read = Tensor::empty({end - begin}, tensor.data.dtype(), host);
  std::memcpy(read.raw(), from, bytes);
  copy(tensor.data.view({-1}).slice(0, begin - tensor.begin, end - tensor.begin), read, host);
}

constexpr std::string_view kMaster = ".master";

/// The parameter of the master "NAME.master"; empty for other names.
std::string_view mastered(std::string_view name) {
  return name.ends_with(kMaster) ? name.substr(0, name.size() - kMaster.size()) : std::string_view();
}

/// The optimizer's tensors and where this checkpoint has them. A run whose weights are their own masters
/// saves no masters; one that shards them does, with the same values. Each can resume from the other's
/// checkpoints.
struct OptimizerLoad {
  Manifest::Group saved;                  ///< without masters that are this run's weights
  std::vector<StateTensor> own;           ///< saved under their names
  std::vector<StateTensor> from_weights;  ///< saved as weights, under the weights' names
};

OptimizerLoad plan_optimizer(const Manifest& manifest, const TrainingState& state) {
  OptimizerLoad plan{group_of(manifest, "optimizer"), {}, {}};
  const Manifest::Group& weights = group_of(manifest, "model");
  std::set<std::string_view> names;
  for (const StateTensor& tensor : state.optimizer) {
    names.insert(tensor.name);
    const std::string_view parameter = mastered(tensor.name);
    const auto weight = weights.find(parameter);
    const bool one = !plan.saved.contains(tensor.name) && weight != weights.end() &&
                     weight->second.shape == tensor.shape && weight->second.dtype == tensor.data.dtype();
    (one ? plan.from_weights : plan.own).push_back(tensor);
    if (one) plan.from_weights.back().name = parameter;
  }
  std::erase_if(plan.saved, [&](const auto& entry) {
    const auto weight = weights.find(mastered(entry.first));
    return !names.contains(entry.first) && weight != weights.end() &&
           weight->second.dtype == entry.second.dtype;
  });
  return plan;
}

void copy_group(const fs::path& checkpoint, const Manifest::Group& saved,
                std::span<const StateTensor> tensors) {
  std::map<std::string, SafetensorsFile> files;
  for (const StateTensor& tensor : tensors) {
    interruption_point();
    for (const Manifest::Piece& piece : saved.find(tensor.name)->second.pieces) {
      auto at = files.find(piece.file);
      if (at == files.end()) {
        at = files.emplace(piece.file, SafetensorsFile::open(checkpoint / piece.file)).first;
      }
      copy_piece(at->second, piece, tensor);
    }
  }
}

}  // namespace

std::string checkpoint_name(int64_t step) {
  return fmt::format("step-{:08}", step);
}

std::vector<CheckpointPlace> list_checkpoints(const fs::path& dir) {
  std::vector<CheckpointPlace> places;
  std::error_code error;
  for (fs::directory_iterator at(dir, error), end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string();
    if (!name.starts_with("step-") || name.size() < 13 || name.size() > 23) continue;
    if (name.find_first_not_of("0123456789", 5) != std::string::npos) continue;
    places.push_back({std::stoll(name.substr(5)), at->path()});
  }
  require(!error || error == std::errc::no_such_file_or_directory, "{}: cannot list: {}", dir.string(),
          error.message());
  std::sort(places.begin(), places.end(), [](const auto& a, const auto& b) { return a.step > b.step; });
  return places;
}

Manifest read_manifest(const fs::path& checkpoint) {
  const fs::path path = checkpoint / "manifest.json";
  require(fs::is_directory(checkpoint), "{}: no such checkpoint", checkpoint.string());
  require(fs::exists(path), "{}: not a Tutti checkpoint: it has no manifest.json", checkpoint.string());
  const std::string text = read_text_file(path, kMaxManifestBytes);
  const std::string sums = read_text_file(checkpoint / "SHA256SUMS", kMaxManifestBytes);
  // Checksum first: a damaged manifest may still be valid JSON, and an undamaged one is never reported as
  // invalid.
  require(sums.starts_with(sha256(text) + "  manifest.json\n"), "{}: checksum mismatch", path.string());
  Manifest manifest = parse_manifest(text, path.string());
  require(sums == checksum_list(manifest, text), "{}: does not match manifest.json",
          (checkpoint / "SHA256SUMS").string());
  return manifest;
}

void verify_files(const fs::path& checkpoint, const Manifest& manifest, ShardOf share) {
  int number = 0;
  for (const auto& [file, facts] : manifest.files) {
    if (number++ % share.ranks != share.rank) continue;
    interruption_point();
    const fs::path path = checkpoint / file;
    const auto mapped = MappedFile::open(path);
    const std::span<const std::byte> bytes = mapped->bytes();
    const auto size = static_cast<int64_t>(bytes.size());
    require(size >= facts.bytes, "{}: {} bytes long, expected {}: truncated in {}", path.string(), size,
            facts.bytes, part_at(manifest, file, size));
    require(size == facts.bytes, "{}: {} bytes long, expected {}", path.string(), size, facts.bytes);
    if (sha256(bytes) != facts.sha256) report_damage(path, manifest, file, bytes);
  }
}

void load_group(const fs::path& checkpoint, const Manifest& manifest, const std::string& group,
                std::span<const StateTensor> tensors) {
  const Manifest::Group& saved = group_of(manifest, group);
  check_fit(checkpoint, group, saved, tensors);
  copy_group(checkpoint, saved, tensors);
}

void load_state(const fs::path& checkpoint, const Manifest& manifest, const TrainingState& state) {
  check_fit(checkpoint, "model", group_of(manifest, "model"), state.model);
  const OptimizerLoad optimizer = plan_optimizer(manifest, state);
  check_fit(checkpoint, "optimizer", optimizer.saved, optimizer.own);
  load_group(checkpoint, manifest, "model", state.model);
  copy_group(checkpoint, optimizer.saved, optimizer.own);
  copy_group(checkpoint, group_of(manifest, "model"), optimizer.from_weights);
}

}  // namespace tutti
