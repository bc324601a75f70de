#include "core/checkpoint/verify_weights.h"
#include <tutti/core/checkpoint/checkpoint.h>
#include <tutti/core/checkpoint/model_files.h>
#include <tutti/core/error.h>
#include <tutti/core/io/file.h>
#include <tutti/core/io/sha256.h>
#include "core/io/json.h"

#include <algorithm>
#include <map>

namespace tutti {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostSumsBytes = int64_t{64} << 20;
constexpr size_t kDigits = 64;  // of a SHA-256

struct Recorded {
  fs::path path;
  std::string sha256;
  std::string recorded_in;
};

std::vector<Recorded> recorded_sums(const fs::path& path) {
  const ModelFiles model = ModelFiles::open(path);
  std::vector<fs::path> files;
  for (const SafetensorsFile& file : model.files()) files.push_back(file.path());
  if (files.empty()) return {};
  const fs::path directory = files.front().parent_path();
  std::error_code none;
  const fs::path sums_path = directory / "SHA256SUMS";
  if (!fs::exists(sums_path, none)) {
    // A checkpoint always has both.
    require(!has_checkpoint_manifest(directory), "{}: the checkpoint has no SHA256SUMS: it is not complete",
            directory.string());
    return {};
  }
  const auto sums = parse_checksum_list(read_text_file(sums_path, kMostSumsBytes), sums_path.string());
  for (const std::string_view small : {std::string_view("manifest.json"), kModelIndexName}) {
    if (sums.contains(std::string(small)) && fs::exists(directory / small, none))
      files.push_back(directory / small);
  }
  std::vector<Recorded> recorded;
  for (const fs::path& file : files) {
    const auto at = sums.find(file.filename().string());
    require(at != sums.end(), "{}: does not list {}: create the list again, or remove it", sums_path.string(),
            file.filename().string());
    recorded.push_back({file, at->second, sums_path.string()});
  }
  return recorded;
}

}  // namespace

bool has_checkpoint_manifest(const fs::path& directory) {
  std::error_code none;
  const fs::path file = directory / "manifest.json";
  return fs::is_regular_file(file, none) &&
         read_text_file(file, kMostSumsBytes).find("\"tutti-checkpoint\"") != std::string::npos;
}

std::map<std::string, std::string> parse_checksum_list(std::string_view text, const std::string& name) {
  std::map<std::string, std::string> sums;
  int64_t number = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    if (line.empty()) continue;
    const std::string_view digest = line.substr(0, std::min(kDigits, line.size()));
    // Two spaces, or a space and an asterisk.
    require(line.size() > kDigits + 2 && line[kDigits] == ' ' &&
                digest.find_first_not_of("0123456789abcdef") == std::string_view::npos,
            "{}:{}: expected a SHA-256 and a file name, as sha256sum writes them; create the list again, or "
            "remove it",
            name, number);
    std::string_view file = line.substr(kDigits + 2);
    while (file.starts_with("./")) file.remove_prefix(2);
    require(!file.empty(), "{}:{}: the file name is missing", name, number);
    sums.emplace(file, digest);
  }
  return sums;
}

std::optional<int64_t> verify_weights(const fs::path& path, Peers& peers, const SharedWork& options) {
  std::vector<Recorded> recorded;
  std::vector<int64_t> costs;
  peers.agree([&] {
    recorded = recorded_sums(path);
    for (const Recorded& file : recorded) costs.push_back(static_cast<int64_t>(fs::file_size(file.path)));
  });
  const auto done =
      share_work(costs, peers, options, [&](size_t unit, const WorkProgress& progress) -> std::string {
        const Recorded& file = recorded[unit];
        const std::string found = sha256_of_file(file.path, -1, progress);
        if (found == file.sha256) return "";
        // With an intact manifest of a checkpoint, the message names the damaged tensor.
        const fs::path directory = file.path.parent_path();
        if (fs::exists(directory / "manifest.json")) {
          const std::string name = file.path.filename().string();
          Manifest manifest = read_manifest(directory);
          std::erase_if(manifest.files, [&](const auto& entry) { return entry.first != name; });
          verify_files(directory, manifest);
        }
        fail(
            "{}: checksum mismatch: {} records SHA-256 {:.16}..., the file has {:.16}...: it is damaged, or "
            "another file",
            file.path.string(), file.recorded_in, file.sha256, found);
      });
  if (!done) return std::nullopt;
  return static_cast<int64_t>(recorded.size());
}

}  // namespace tutti
