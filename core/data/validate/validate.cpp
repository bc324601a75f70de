#include <tutti/core/data/token_dataset.h>
#include <tutti/core/data/tokenizer.h>
#include <tutti/core/error.h>
#include "core/counted.h"
#include "core/data/validate/scan.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <unordered_map>

namespace tutti {
namespace {

namespace fs = std::filesystem;

constexpr size_t kExamples = 10;

struct DigestHash {
  size_t operator()(const ContentDigest& digest) const {
    size_t hash = 0;
    std::memcpy(&hash, digest.data(), sizeof hash);
    return hash;
  }
};

/// The first occurrence of a content.
struct FirstPlace {
  size_t split = 0;
  int64_t id = 0;
};

/// A split during validation.
struct OpenSplit {
  SplitReport report;
  std::unique_ptr<const ImageSource> images;  // null for tokens
  std::vector<int64_t> skip;
  int64_t context = 0;
  ScanPart part;

  [[nodiscard]] std::string name_of(int64_t id) const {
    return fmt::format("{} {}", name(report.split), images ? images->name(id) : std::to_string(id));
  }
  [[nodiscard]] int32_t label(int64_t id) const { return images ? images->label(id) : 0; }
};

std::optional<OpenSplit> open_images(const DataConfig& config, Split split, const SkipList& skip) {
  const std::vector<std::string> names = skip.names(split);
  OpenSplit open;
  open.images = open_image_source(config, split, names);
  if (open.images == nullptr) return std::nullopt;
  open.skip = open.images->find(names);
  SplitReport& report = open.report;
  report.samples = open.images->size();
  report.skipped = static_cast<int64_t>(open.skip.size());
  report.class_counts.resize(static_cast<size_t>(open.images->classes()));
  for (int64_t id = 0; id < report.samples; ++id) {
    if (!std::binary_search(open.skip.begin(), open.skip.end(), id)) {
      ++report.class_counts[static_cast<size_t>(open.images->label(id))];
    }
  }
  if (const auto* folder = dynamic_cast<const ImageFolder*>(open.images.get())) {
    report.class_names = folder->names();
    report.left_out = folder->left_out_files();
    report.missing = folder->missing_files();
  }
  return open;
}

std::optional<OpenSplit> open_tokens(const DataConfig& config, const fs::path& directory, Split split) {
  if (open_dataset(config, split) == nullptr) return std::nullopt;
  const TokenDataset data(TokenCorpus::open(directory, name(split)), config.context);
  OpenSplit open;
  open.context = config.context;
  SplitReport& report = open.report;
  report.samples = data.size();
  report.tokens = data.corpus().size();
  report.shards = static_cast<int64_t>(data.corpus().shards().size());
  report.vocabulary = data.corpus().source().vocabulary;
  return open;
}

void fill_in(SplitReport& report, const ScanPart& part) {
  report.least_height = part.least_height, report.least_width = part.least_width;
  report.most_height = part.most_height, report.most_width = part.most_width;
  report.scaled_up = part.scaled_up;
  report.problems = part.problems;
  std::stable_sort(report.problems.begin(), report.problems.end(),
                   [](const DataProblem& a, const DataProblem& b) { return a.id < b.id; });
  report.ids_used = std::count(part.ids_used.begin(), part.ids_used.end(), true);
  // They keep their position, which training needs, but have no file.
  const auto missing = static_cast<int64_t>(report.missing.size());
  report.samples -= missing, report.skipped -= missing;
}

void join(ScanPart& all, ScanPart part) {
  all.problems.insert(all.problems.end(), part.problems.begin(), part.problems.end());
  all.digests.insert(all.digests.end(), part.digests.begin(), part.digests.end());
  if (part.most_height > 0) {
    const bool first = all.most_height == 0;
    all.least_height = first ? part.least_height : std::min(all.least_height, part.least_height);
    all.least_width = first ? part.least_width : std::min(all.least_width, part.least_width);
    all.most_height = std::max(all.most_height, part.most_height);
    all.most_width = std::max(all.most_width, part.most_width);
  }
  all.scaled_up += part.scaled_up;
  if (all.ids_used.empty()) all.ids_used.resize(part.ids_used.size());
  for (size_t i = 0; i < part.ids_used.size(); ++i) all.ids_used[i] = all.ids_used[i] || part.ids_used[i];
}

void count_duplicates(const std::vector<OpenSplit>& splits, DataReport& report) {
  std::unordered_map<ContentDigest, FirstPlace, DigestHash> first;
  for (size_t s = 0; s < splits.size(); ++s) {
    for (const auto& [id, digest] : splits[s].part.digests) {
      const auto [known, fresh] = first.emplace(digest, FirstPlace{s, id});
      if (fresh) continue;
      const FirstPlace& other = known->second;
      DuplicateCounts& counts = other.split == s ? report.splits[s].duplicates : report.shared;
      ++counts.samples;
      if (splits[s].label(id) != splits[other.split].label(other.id)) ++counts.conflicts;
      if (counts.examples.size() < kExamples) {
        counts.examples.push_back({splits[other.split].name_of(other.id), splits[s].name_of(id)});
      }
    }
  }
}

void add_warnings(const DataConfig& config, DataReport& report) {
  for (const SplitReport& split : report.splits) {
    const auto warn = [&](const std::string& text) {
      report.warnings.push_back(fmt::format("{}: {}", name(split.split), text));
    };
    const int64_t empty = std::count(split.class_counts.begin(), split.class_counts.end(), 0);
    if (empty > 0) {
      const auto at =
          std::find(split.class_counts.begin(), split.class_counts.end(), 0) - split.class_counts.begin();
      const auto i = static_cast<size_t>(at);
      warn(fmt::format("{} without a sample (class {})", counted(empty, "class", "classes"),
                       i < split.class_names.size() ? split.class_names[i] : std::to_string(at)));
    }
    if (split.duplicates.samples > 0) {
      warn(fmt::format("{} with the content of an earlier one{}", counted(split.duplicates.samples, "sample"),
                       split.duplicates.conflicts > 0
                           ? fmt::format(", {} of them in another class", grouped(split.duplicates.conflicts))
                           : ""));
    }
    if (split.scaled_up > 0) {
      warn(fmt::format("{} smaller than {} pixels are scaled up", counted(split.scaled_up, "image"),
                       config.folder.resize > 0 ? config.folder.resize : config.folder.size));
    }
    if (!split.missing.empty()) {
      const size_t shown = std::min(split.missing.size(), kExamples);
      warn(fmt::format("data.skip lists {}: {}{}",
                       counted(static_cast<int64_t>(split.missing.size()), "missing image"),
                       fmt::join(split.missing.begin(), split.missing.begin() + shown, ", "),
                       shown < split.missing.size() ? ", ..." : ""));
    }
    if (!split.left_out.empty()) {
      warn(fmt::format("{} ignored", counted(static_cast<int64_t>(split.left_out.size()), "file")));
    }
  }
  if (report.shared.samples > 0) {
    report.warnings.push_back(fmt::format(
        "{} also in the training data{}",
        counted(report.shared.samples, "validation sample is", "validation samples are"),
        report.shared.conflicts > 0 ? fmt::format(", {} in another class", grouped(report.shared.conflicts))
                                    : ""));
  }
}

}  // namespace

bool DataReport::good() const {
  return errors.empty() &&
         std::all_of(splits.begin(), splits.end(), [](const SplitReport& s) { return s.problems.empty(); });
}

SkipList DataReport::skip_list(const SkipList& given) const {
  SkipList all = given;
  for (const SplitReport& split : splits) {
    for (const DataProblem& problem : split.problems) {
      if (problem.can_be_skipped) all.entries.push_back({split.split, problem.name, problem.reason});
    }
  }
  return all;
}

DataReport validate_data(const DataConfig& config, Peers& peers, ThreadPool& pool,
                         const std::function<void(int64_t, int64_t)>& progress) {
  DataReport report;
  std::vector<OpenSplit> splits;
  for (const Split split : {Split::kTraining, Split::kValidation}) {
    std::optional<OpenSplit> open;
    std::string error;
    const bool training = split == Split::kTraining;
    const fs::path path = training || config.validation_path.empty() ? config.path : config.validation_path;
    try {
      open = config.kind == "tokens" ? open_tokens(config, path, split)
                                     : open_images(config, split, open_skip_list(config));
    } catch (const Error& caught) {
      error = caught.what();
    }
    // Ranks with different files would deadlock below.
    const std::vector<std::string> all =
        peers.all_gather(fmt::format("{}\n{}", open ? open->report.samples : 0, error));
    const auto odd = std::find_if(all.begin(), all.end(), [&](const auto& a) { return a != all.front(); });
    if (odd != all.end()) {
      report.complete = false;
      report.errors.push_back(fmt::format("{}: rank {} sees different files than rank 0: {} samples{}",
                                          path.string(), odd - all.begin(), odd->substr(0, odd->find('\n')),
                                          odd->substr(odd->find('\n') + 1)));
      continue;
    }
    if (!error.empty()) {
      report.complete = false;
      report.errors.push_back(fmt::format("{}: {}", name(split), error));
    }
    if (!open) continue;
    open->report.split = split;
    open->report.path = path.string();
    splits.push_back(*std::move(open));
  }

  for (OpenSplit& split : splits) {
    std::string mine, error;
    try {
      const int64_t samples = split.report.samples;
      const auto report_progress = peers.rank() == 0 ? progress : nullptr;
      const ScanPart part =
          split.images ? scan_images(config, *split.images, split.skip, samples * peers.rank() / peers.size(),
                                     samples * (peers.rank() + 1) / peers.size(), pool, report_progress)
                       : scan_tokens(split.report.path, name(split.report.split), split.context, peers.rank(),
                                     peers.size(), pool, report_progress);
      mine = part.to_text();
    } catch (const Error& caught) {
      error = caught.what();
    }
    for (const std::string& text : peers.all_gather(error.empty() ? "+" + mine : "-" + error)) {
      if (text.front() == '+') {
        join(split.part, ScanPart::from_text(text.substr(1)));
      } else {
        report.complete = false;
        report.errors.push_back(fmt::format("{}: {}", name(split.report.split), text.substr(1)));
      }
    }
    fill_in(split.report, split.part);
    report.splits.push_back(split.report);
  }
  count_duplicates(splits, report);
  if (report.splits.size() == 2 &&
      report.splits[0].class_counts.size() < report.splits[1].class_counts.size()) {
    report.errors.push_back(fmt::format("the validation data has {} classes, the training data {}",
                                        report.splits[1].class_counts.size(),
                                        report.splits[0].class_counts.size()));
  }
  if (config.kind == "tokens" && report.errors.empty()) {
    try {
      (void)open_tokenizer(config);
    } catch (const Error& caught) {
      report.errors.emplace_back(caught.what());
    }
  }
  add_warnings(config, report);
  return report;
}

}  // namespace tutti
