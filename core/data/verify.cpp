#include <tutti/core/data/verify.h>
#include <tutti/core/error.h>
#include <tutti/core/io/sha256.h>

#include <algorithm>
#include <charconv>

namespace tutti {
namespace {

namespace fs = std::filesystem;

/// Number of small files per unit of work. Units, and so the digest, do not depend on the number of ranks.
constexpr size_t kFilesPerUnit = 256;
/// Opening a file costs as much as reading this many bytes.
constexpr int64_t kOpeningCost = int64_t{64} << 10;

std::string human(int64_t bytes) {
  constexpr double kStep = 1024;
  double value = static_cast<double>(bytes);
  for (const char* unit : {"bytes", "KiB", "MiB", "GiB"}) {
    if (value < kStep) return fmt::format("{:.3g} {}", value, unit);
    value /= kStep;
  }
  return fmt::format("{:.4g} TiB", value);
}

int64_t size_of_file(const fs::path& path) {
  std::error_code error;
  const uintmax_t bytes = fs::file_size(path, error);
  const std::string reason = error.message();
  require(!error, "{}: {}", path.string(), reason);
  return static_cast<int64_t>(bytes);
}

/// Lengths before texts ensure that different lists give different bytes.
void add(Sha256& hash, std::string_view text) {
  hash.update(fmt::format("{} ", text.size()));
  hash.update(text);
}

std::string check_file(const ContentFile& file, const WorkProgress& progress) {
  const std::string found = sha256_of_file(file.path, file.bytes, progress);
  require(file.sha256.empty() || found == file.sha256,
          "{}: checksum mismatch: {} records SHA-256 {:.16}..., the file has {:.16}...: it is damaged, or "
          "another file. Copy or create it again; data.verify: quick skips this check",
          file.path.string(), file.recorded_in, file.sha256, found);
  return found;
}

/// Names and sizes of one unit's files, or names and contents: the digest, and the bytes.
std::string digest_unit(std::span<const ContentFile> files, bool contents, const WorkProgress& progress) {
  Sha256 hash;
  int64_t total = 0;
  for (const ContentFile& file : files) {
    add(hash, file.name);
    if (contents) {
      add(hash, sha256_of_file(file.path, -1, {}));
    } else {
      const int64_t bytes = size_of_file(file.path);
      hash.update(fmt::format("{} ", bytes));
      total += bytes;
    }
    progress(kOpeningCost);
  }
  return fmt::format("{} {}", hash.finish(), total);
}

struct Units {
  std::string digest;
  int64_t bytes = 0;
};

std::optional<Units> digest_units(const std::vector<ContentFile>& files, bool contents, Peers& peers,
                                  const SharedWork& options) {
  std::vector<int64_t> costs;
  for (size_t begin = 0; begin < files.size(); begin += kFilesPerUnit) {
    costs.push_back(static_cast<int64_t>(std::min(kFilesPerUnit, files.size() - begin)) * kOpeningCost);
  }
  const auto results =
      share_work(costs, peers, options, [&](size_t unit, const WorkProgress& progress) -> std::string {
        const size_t begin = unit * kFilesPerUnit;
        return digest_unit(std::span(files).subspan(begin, std::min(kFilesPerUnit, files.size() - begin)),
                           contents, progress);
      });
  if (!results) return std::nullopt;
  Units all;
  Sha256 hash;
  for (const std::string& result : *results) {
    const size_t space = result.find(' ');
    hash.update(result.substr(0, space));
    int64_t bytes = 0;
    (void)std::from_chars(result.data() + space + 1, result.data() + result.size(), bytes);
    all.bytes += bytes;
  }
  all.digest = hash.finish();
  return all;
}

void log(const SharedWork& options, Peers& peers, const std::string& text) {
  if (peers.rank() == 0 && options.log) options.log(text);
}

/// Of few large files: tokens, arrays of images.
std::optional<DataIdentity> identify_files(const DataContent& content, DataCheck check, Peers& peers,
                                           const SharedWork& options) {
  DataIdentity identity;
  Sha256 listed;
  bool recorded = true;
  std::vector<int64_t> costs;
  for (const ContentFile& file : content.files) {
    recorded = recorded && !file.sha256.empty();
    listed.update(file.sha256.empty() ? fmt::format("{} bytes ", file.bytes) : file.sha256);
    costs.push_back(std::max<int64_t>(file.bytes, 0) + kOpeningCost);
    identity.bytes += std::max<int64_t>(file.bytes, 0);
  }
  identity.listed = listed.finish();
  if (check == DataCheck::kQuick) return identity;
  constexpr int64_t kWorthSaying = int64_t{1} << 30;
  if (identity.bytes >= kWorthSaying) {
    log(options, peers,
        fmt::format("{}: reading {} in {} files", options.name, human(identity.bytes), costs.size()));
  }
  const auto sums =
      share_work(costs, peers, options, [&](size_t unit, const WorkProgress& progress) -> std::string {
        return check_file(content.files[unit], progress);
      });
  if (!sums) return std::nullopt;
  Sha256 contents;
  for (const std::string& sum : *sums) contents.update(sum);
  if (!recorded) identity.contents = contents.finish();
  return identity;
}

/// Of many small files: folders of images.
std::optional<DataIdentity> identify_small_files(const DataContent& content, DataCheck check, Peers& peers,
                                                 const SharedWork& options) {
  const std::optional<Units> names = digest_units(content.files, false, peers, options);
  if (!names) return std::nullopt;
  DataIdentity identity{
      .listed = names->digest, .contents = "", .classes = {}, .files = 0, .bytes = names->bytes};
  if (check == DataCheck::kQuick) return identity;
  if (names->bytes > kMostBytesOfSmallFiles) {
    log(options, peers,
        fmt::format("{}: {} files of {}: identified by names and sizes only; contents are read up to {}",
                    options.name, content.files.size(), human(names->bytes), human(kMostBytesOfSmallFiles)));
    return identity;
  }
  const std::optional<Units> contents = digest_units(content.files, true, peers, options);
  if (!contents) return std::nullopt;
  identity.contents = contents->digest;
  return identity;
}

}  // namespace

DataContent content_of_files(const std::vector<fs::path>& files) {
  DataContent content;
  for (const fs::path& path : files) {
    content.files.push_back({.path = path,
                             .name = path.filename().string(),
                             .bytes = size_of_file(path),
                             .sha256 = "",
                             .recorded_in = ""});
  }
  return content;
}

DataCheck data_check_from_name(std::string_view name) {
  require(name == "full" || name == "quick", "data.verify: '{}'; expected full or quick", name);
  return name == "full" ? DataCheck::kFull : DataCheck::kQuick;
}

std::optional<DataIdentity> identify(const DataContent& content, DataCheck check, Peers& peers,
                                     const SharedWork& options) {
  std::optional<DataIdentity> identity = content.small_files
                                             ? identify_small_files(content, check, peers, options)
                                             : identify_files(content, check, peers, options);
  if (!identity) return std::nullopt;
  Sha256 hash;
  hash.update(identity->listed);
  for (const auto* list : {&content.classes, &content.facts}) {
    hash.update(fmt::format("{} ", list->size()));
    for (const std::string& text : *list) add(hash, text);
  }
  identity->listed = hash.finish();
  identity->classes = content.classes;
  identity->files = static_cast<int64_t>(content.files.size());
  identity->described = fmt::format("{} files of {} bytes", identity->files, identity->bytes);
  for (const std::string& fact : content.facts) identity->described += ", " + fact;
  return identity;
}

}  // namespace tutti
