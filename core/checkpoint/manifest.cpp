#include <tutti/core/checkpoint/manifest.h>
#include <tutti/core/checkpoint/safetensors.h>
#include <tutti/core/error.h>
#include "core/io/json.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace tutti {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kFormat = "tutti-checkpoint";
constexpr int64_t kVersion = 1;

/// Reads typed members of a JSON object; errors name the file and the key's path.
class Object {
 public:
  Object(const Json& json, std::string file, std::string path)
      : json_(json), file_(std::move(file)), path_(std::move(path)) {
    require(json_.is_object(), "{}: {}: expected an object", file_, path_);
  }

  [[nodiscard]] const Json& at(const std::string& key) const {
    const auto found = json_.find(key);
    require(found != json_.end(), "{}: {}: key '{}' is missing", file_, path_, key);
    return *found;
  }
  [[nodiscard]] Object object(const std::string& key) const { return {at(key), file_, path_ + "." + key}; }
  [[nodiscard]] const Json& array(const std::string& key) const {
    require(at(key).is_array(), "{}: {}.{}: expected an array", file_, path_, key);
    return at(key);
  }
  [[nodiscard]] std::string text(const std::string& key) const {
    require(at(key).is_string(), "{}: {}.{}: expected a string", file_, path_, key);
    return at(key).get<std::string>();
  }
  /// A non-negative integer.
  [[nodiscard]] int64_t count(const std::string& key) const { return count(at(key), key); }
  [[nodiscard]] int64_t count(const Json& value, const std::string& key) const {
    require(value.is_number_unsigned() && value.get<uint64_t>() <= uint64_t{INT64_MAX},
            "{}: {}.{}: expected a non-negative integer", file_, path_, key);
    return value.get<int64_t>();
  }
  [[nodiscard]] uint64_t seed(const std::string& key) const {
    require(at(key).is_number_unsigned(), "{}: {}.{}: expected an unsigned integer", file_, path_, key);
    return at(key).get<uint64_t>();
  }
  template <class F>
  void each(F&& f) const {
    for (const auto& [key, value] : json_.items()) f(key, value);
  }
  [[nodiscard]] const std::string& file() const { return file_; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  const Json& json_;
  std::string file_;
  std::string path_;
};

bool is_hex(std::string_view text, size_t digits) {
  return text.size() == digits && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

std::string file_name(const Object& object, const std::string& name) {
  require(is_plain_file_name(name), "{}: {}: '{}' is not a file name", object.file(), object.path(), name);
  return name;
}

CheckpointMetadata read_metadata(const Object& object) {
  CheckpointMetadata metadata;
  metadata.step = object.count("step");
  metadata.next_sample = object.count("next_sample");
  metadata.seed = object.seed("seed");
  metadata.world_size = object.count("world_size");
  metadata.run_file = object.text("run_file");
  metadata.version = object.text("version");
  const Object extra = object.object("extra");
  extra.each([&](const std::string& key, const Json&) { metadata.extra[key] = extra.text(key); });
  return metadata;
}

Manifest::Piece read_piece(const Object& object, DType dtype) {
  Manifest::Piece piece;
  piece.file = file_name(object, object.text("file"));
  piece.offset = object.count("offset");
  piece.begin = object.count("begin");
  piece.end = object.count("end");
  int64_t bytes = 0;
  require(
      piece.begin <= piece.end && !__builtin_mul_overflow(piece.end - piece.begin, size_of(dtype), &bytes),
      "{}: {}: elements {} to {}", object.file(), object.path(), piece.begin, piece.end);
  for (const Json& sum : object.array("sums")) {
    require(sum.is_string() && is_hex(sum.get_ref<const std::string&>(), 16),
            "{}: {}.sums: expected strings of 16 hexadecimal digits", object.file(), object.path());
    piece.sums.push_back(sum.get<std::string>());
  }
  const int64_t blocks = bytes / kChecksumBlock + (bytes % kChecksumBlock == 0 ? 0 : 1);
  require(static_cast<int64_t>(piece.sums.size()) == blocks, "{}: {}.sums: {} checksums for {} bytes",
          object.file(), object.path(), piece.sums.size(), bytes);
  return piece;
}

Manifest::Entry read_entry(const Object& object) {
  Manifest::Entry entry;
  const std::optional<DType> dtype = dtype_from_safetensors(object.text("dtype"));
  if (!dtype) {
    fail("{}: {}.dtype: '{}' is not a tensor dtype", object.file(), object.path(), object.text("dtype"));
  }
  entry.dtype = *dtype;
  for (const Json& size : object.array("shape")) {
    require(entry.shape.size() < entry.shape.capacity(), "{}: {}.shape: more than {} dims", object.file(),
            object.path(), kMaxDims);
    entry.shape.push_back(object.count(size, "shape"));
  }
  for (const Json& piece : object.array("pieces")) {
    entry.pieces.push_back(read_piece({piece, object.file(), object.path() + ".pieces"}, entry.dtype));
  }
  return entry;
}

Json piece_json(const Manifest::Piece& piece) {
  return {{"file", piece.file},
          {"offset", piece.offset},
          {"begin", piece.begin},
          {"end", piece.end},
          {"sums", piece.sums}};
}

Json entry_json(const Manifest::Entry& entry) {
  Json pieces = Json::array();
  for (const Manifest::Piece& piece : entry.pieces) pieces.push_back(piece_json(piece));
  return {{"dtype", safetensors_dtype(entry.dtype)},
          {"shape", std::vector<int64_t>(entry.shape.begin(), entry.shape.end())},
          {"pieces", std::move(pieces)}};
}

}  // namespace

std::string to_json(const Manifest& manifest) {
  const CheckpointMetadata& m = manifest.metadata;
  Json json = {{"format", kFormat},
               {"format_version", kVersion},
               {"training",
                {{"step", m.step},
                 {"next_sample", m.next_sample},
                 {"seed", m.seed},
                 {"world_size", m.world_size},
                 {"run_file", m.run_file},
                 {"version", m.version},
                 {"extra", m.extra}}},
               {"files", Json::object()},
               {"tensors", Json::object()}};
  for (const auto& [file, facts] : manifest.files) {
    json["files"][file] = {{"bytes", facts.bytes}, {"sha256", facts.sha256}};
  }
  for (const auto& [group, tensors] : manifest.groups) {
    Json& target = json["tensors"][group] = Json::object();
    for (const auto& [tensor, entry] : tensors) target[tensor] = entry_json(entry);
  }
  try {
    return json.dump(1) + "\n";
  } catch (const Json::exception& error) {
    fail("checkpoint: the manifest cannot be written: {}", error.what());
  }
}

Manifest parse_manifest_part(std::string_view text, const std::string& name) {
  const Json json = parse_strict_json(text, name);
  require(json.is_object() && json.contains("format") && json["format"] == kFormat,
          "{}: not the manifest of a Tutti checkpoint", name);
  const Object root(json, name, "manifest");
  require(root.count("format_version") == kVersion, "{}: format version {}; this program reads version {}",
          name, root.count("format_version"), kVersion);
  Manifest manifest;
  manifest.metadata = read_metadata(root.object("training"));
  const Object files = root.object("files");
  files.each([&](const std::string& key, const Json&) {
    const Object file = files.object(key);
    const std::string digest = file.text("sha256");
    require(is_hex(digest, 64), "{}: {}: '{}' is not a SHA-256", name, file.path(), digest);
    manifest.files[file_name(files, key)] = {file.count("bytes"), digest};
  });
  const Object groups = root.object("tensors");
  groups.each([&](const std::string& group, const Json&) {
    const Object tensors = groups.object(group);
    Manifest::Group& target = manifest.groups[group];
    tensors.each(
        [&](const std::string& tensor, const Json&) { target[tensor] = read_entry(tensors.object(tensor)); });
  });
  for (const auto& [group, tensors] : manifest.groups) {
    for (const auto& [tensor, entry] : tensors) {
      for (const Manifest::Piece& piece : entry.pieces) {
        const auto file = manifest.files.find(piece.file);
        require(file != manifest.files.end(), "{}: tensor '{}' is in {}, which is not listed as a file", name,
                tensor, piece.file);
        const int64_t bytes = (piece.end - piece.begin) * size_of(entry.dtype);
        require(bytes <= file->second.bytes && piece.offset <= file->second.bytes - bytes,
                "{}: tensor '{}' exceeds the end of {}", name, tensor, piece.file);
      }
    }
  }
  return manifest;
}

Manifest parse_manifest(std::string_view text, const std::string& name) {
  Manifest manifest = parse_manifest_part(text, name);
  check_complete(manifest, name);
  return manifest;
}

void merge(Manifest& manifest, const Manifest& part) {
  for (const auto& [file, facts] : part.files) {
    require(manifest.files.emplace(file, facts).second, "checkpoint: two ranks wrote {}", file);
  }
  for (const auto& [group, tensors] : part.groups) {
    for (const auto& [tensor, entry] : tensors) {
      const auto [at, fresh] = manifest.groups[group].emplace(tensor, entry);
      if (fresh) continue;
      Manifest::Entry& whole = at->second;
      require(whole.dtype == entry.dtype && whole.shape == entry.shape,
              "checkpoint: ranks disagree about dtype or shape of {} tensor '{}'", group, tensor);
      whole.pieces.insert(whole.pieces.end(), entry.pieces.begin(), entry.pieces.end());
    }
  }
  for (auto& [group, tensors] : manifest.groups) {
    for (auto& [tensor, entry] : tensors) {
      std::stable_sort(entry.pieces.begin(), entry.pieces.end(), [](const auto& a, const auto& b) {
        return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
      });
    }
  }
}

void check_complete(const Manifest& manifest, const std::string& name) {
  for (const auto& [group, tensors] : manifest.groups) {
    for (const auto& [tensor, entry] : tensors) {
      int64_t covered = 0;
      for (const Manifest::Piece& piece : entry.pieces) {
        require(piece.begin == covered, "{}: {} tensor '{}': elements {} to {} are missing or duplicate",
                name, group, tensor, std::min(covered, piece.begin), std::max(covered, piece.begin));
        covered = piece.end;
      }
      require(covered == numel(entry.shape), "{}: {} tensor '{}': {} elements for shape {}", name, group,
              tensor, covered, to_string(entry.shape));
    }
  }
}

std::string checksum_list(const Manifest& manifest, std::string_view manifest_text) {
  std::string list = fmt::format("{}  manifest.json\n", sha256(manifest_text));
  for (const auto& [file, facts] : manifest.files) list += fmt::format("{}  {}\n", facts.sha256, file);
  return list;
}

}  // namespace tutti
