#include "launcher/run/skipping.h"
#include <tutti/core/data/dataset.h>

#include <tutti/core/error.h>
#include <tutti/core/io/file.h>
#include "core/counted.h"
#include "launcher/launch/quoting.h"

namespace tutti {

void check_same_data(const Dataset& data, const std::string& path, Peers& peers) {
  const std::vector<std::string> all = peers.all_gather(data.description());
  for (size_t rank = 1; rank < all.size(); ++rank) {
    require(all[rank] == all.front(),
            "{}: rank 0 finds {}; rank {} finds {}: all ranks must have access to the same files", path,
            all.front(), rank, all[rank]);
  }
}

std::string record_skip_list(const DataConfig& data, const std::filesystem::path& file) {
  const SkipList now = open_skip_list(data);
  std::error_code error;
  const bool recorded = std::filesystem::exists(file, error);
  if (!recorded && now.entries.empty()) return {};
  SkipList before;
  try {
    if (recorded) before = SkipList::load(file);
  } catch (const Error&) {
    // A damaged record does not stop a run: it is rewritten.
  }
  write_file_atomically(file, now.to_text());
  if (before.sha256() == now.sha256()) return {};
  return fmt::format(
      "data.skip: {} skipped from this step, {} in the previous session; the positions of all others are "
      "unchanged",
      counted(static_cast<int64_t>(now.entries.size()), "sample"),
      grouped(static_cast<int64_t>(before.entries.size())));
}

std::string damaged_sample_advice(const TrainOptions& options, const std::string& skip) {
  const std::string list = skip.empty() ? "skip.txt" : skip;
  const auto command = [&](std::vector<std::string> words, const std::vector<std::string>& more) {
    words.push_back(options.run_file.string());
    for (const std::string& set : options.sets) {
      if (!set.starts_with("data.skip=")) words.insert(words.end(), {"--set", set});
    }
    words.insert(words.end(), more.begin(), more.end());
    return shell_line(words);
  };
  std::vector<std::string> check{"--write-skip", list};
  if (!skip.empty()) check.insert(check.begin(), {"--set", "data.skip=" + skip});
  return fmt::format(
      ". To continue without it from the last checkpoint, with all other samples unchanged: `{}`, then `{}`",
      command({"tutti", "data", "validate"}, check),
      command({"tutti", "train"}, {"--resume", "--set", "data.skip=" + list}));
}

}  // namespace tutti
