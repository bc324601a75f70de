#include "launcher/run/identity.h"

#include <tutti/core/error.h>
#include <tutti/models/hugging_face/config.h>
#include "core/config/nearest.h"
#include "core/config/tolerant.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>

namespace tutti {
namespace {

constexpr std::string_view kTraining = "data.training";
constexpr std::string_view kValidation = "data.validation";
constexpr std::string_view kClasses = "data.classes";
constexpr std::string_view kSamples = "data.samples";
constexpr std::string_view kContents = ".contents";
constexpr std::string_view kUnread = ".unread";  // in some session its contents were not verified
constexpr std::string_view kDescribed = ".described";
constexpr std::string_view kNone = "none";

struct Entry {
  std::string_view key;  // or a section and ".*"
  KeyClass change;
};

/// The first matching entry applies. Sections whose keys all change the computation, or all do not, are
/// listed as a whole; in the others each key is listed, so that every new key must be classified.
constexpr std::array kTable{
    Entry{"run.dir", KeyClass::kFree},
    Entry{"run.seed", KeyClass::kRefuse},
    Entry{"run.threads", KeyClass::kFree},
    Entry{"run.device", KeyClass::kNote},  // rounds differently
    Entry{"run.share_gpus", KeyClass::kFree},
    Entry{kTraining, KeyClass::kRefuse},
    Entry{kValidation, KeyClass::kRefuse},
    Entry{kClasses, KeyClass::kRefuse},
    Entry{kSamples, KeyClass::kRefuse},
    Entry{"data.kind", KeyClass::kRefuse},
    Entry{"data.path", KeyClass::kFree},  // its content is compared
    Entry{"data.validation_path", KeyClass::kFree},
    Entry{"data.verify", KeyClass::kFree},
    Entry{"data.skip", KeyClass::kNote},  // the positions of all other samples are unchanged
    Entry{"data.context", KeyClass::kRefuse},
    Entry{"data.image.*", KeyClass::kRefuse},
    Entry{"data.folder.*", KeyClass::kRefuse},
    Entry{"data.threads", KeyClass::kFree},
    Entry{"data.ahead", KeyClass::kFree},
    Entry{"model.weights", KeyClass::kFree},    // read only before the first step
    Entry{"model.recompute", KeyClass::kFree},  // the same bits
    Entry{"model.*", KeyClass::kRefuse},
    Entry{"optimizer.learning_rate", KeyClass::kNote},
    Entry{"optimizer.*", KeyClass::kRefuse},
    Entry{"schedule.*", KeyClass::kRefuse},
    Entry{"train.steps", KeyClass::kNote},  // stretches a schedule
    Entry{"train.batch", KeyClass::kRefuse},
    Entry{"train.microbatch", KeyClass::kRefuse},  // if it divides a shard
    Entry{"train.gpu_microbatch", KeyClass::kRefuse},
    Entry{"train.evaluate_every", KeyClass::kFree},
    Entry{"train.max_skipped_steps", KeyClass::kFree},
    Entry{"train.cuda_graph", KeyClass::kNote},
    Entry{"precision.*", KeyClass::kRefuse},
    Entry{"parallel.mode", KeyClass::kRefuse},
    Entry{"parallel.logical_shards", KeyClass::kRefuse},
    Entry{"parallel.reduce_dtype", KeyClass::kRefuse},
    Entry{"parallel.zero", KeyClass::kFree},
    Entry{"parallel.bucket_mib", KeyClass::kFree},
    Entry{"parallel.gpu_backend", KeyClass::kFree},
    Entry{"parallel.max_ctas", KeyClass::kFree},
    Entry{"parallel.timeout_s", KeyClass::kFree},
    Entry{"checkpoint.*", KeyClass::kFree},
    Entry{"metrics.*", KeyClass::kFree},
};

bool fits(std::string_view entry, std::string_view key) {
  if (!entry.ends_with(".*")) return entry == key;
  return key.starts_with(entry.substr(0, entry.size() - 1));
}

bool is_allowed(std::string_view key, std::span<const std::string> allowed) {
  return std::any_of(allowed.begin(), allowed.end(), [&](const std::string& name) {
    return key == name || (key.starts_with(name) && key.substr(name.size()).starts_with("."));
  });
}

int64_t at_most(int64_t microbatch, int64_t samples) {
  return microbatch == 0 ? samples : std::min(microbatch, samples);
}

/// Samples in the largest forward and backward pass, which determines how sums are divided.
int64_t largest_pass(const RunSettings& settings, int64_t microbatch, int64_t world_size) {
  const DataParallelConfig& data = settings.parallel.data;
  const int64_t parts = data.mode == "ordered" ? data.logical_shards : std::max<int64_t>(world_size, 1);
  return at_most(microbatch, (settings.train.batch + parts - 1) / parts);
}

bool same_bits(std::string_view key, const RunSettings& a, int64_t a_ranks, const RunNow& now) {
  if (key == "train.microbatch")
    return largest_pass(a, a.train.microbatch, a_ranks) ==
           largest_pass(now.settings, now.settings.train.microbatch, now.world_size);
  if (key == "train.gpu_microbatch")
    return largest_pass(a, a.train.microbatch_on(DeviceType::kCuda), a_ranks) ==
           largest_pass(now.settings, now.settings.train.microbatch_on(DeviceType::kCuda), now.world_size);
  if (key == "parallel.logical_shards") {
    return a.parallel.data.mode != "ordered" && now.settings.parallel.data.mode != "ordered";
  }
  if (key == "train.steps") return now.settings.schedule.kind == "constant";
  return false;
}

/// The run file in a checkpoint, as far as this version accepts it.
struct SavedSettings {
  RunSettings settings;
  Untaken untaken;

  /// Why the value of a key was not accepted; empty if it was.
  [[nodiscard]] std::string refused(std::string_view key) const {
    const auto found = std::ranges::find_if(untaken.refused, [&](const std::string& text) {
      return text.find(fmt::format(": {}: ", key)) != std::string::npos;
    });
    return found == untaken.refused.end() ? "" : fmt::format("({})", *found);
  }
};

SavedSettings saved_settings(const CheckpointMetadata& metadata) {
  SavedSettings saved;
  saved.untaken = read_tolerantly(metadata.run_file,
                                  fmt::format("the run file in the checkpoint of step {}", metadata.step),
                                  saved.settings);
  return saved;
}

std::map<std::string, std::string> values_of(const std::vector<Setting>& settings) {
  std::map<std::string, std::string> values;
  for (const Setting& setting : settings) values.emplace(setting.path, setting.value);
  return values;
}

std::vector<Difference> compare_settings(const CheckpointMetadata& metadata, const RunNow& now) {
  const SavedSettings then = saved_settings(metadata);
  const std::map<std::string, std::string> before = values_of(list_settings(then.settings));
  std::vector<Difference> all;
  for (const Setting& setting : list_settings(now.settings)) {
    const auto found = before.find(setting.path);
    const KeyClass change = key_class(setting.path).value_or(KeyClass::kRefuse);
    if (found == before.end() || change == KeyClass::kFree) continue;
    if (const std::string refused = then.refused(setting.path); !refused.empty()) {
      all.push_back({setting.path, refused, setting.value, change});
    } else if (found->second != setting.value &&
               !same_bits(setting.path, then.settings, metadata.world_size, now)) {
      all.push_back({setting.path, found->second, setting.value, change});
    }
  }
  return all;
}

/// Whether a key of the model section, without "model.", changes what weights compute.
bool changes_function(std::string_view kind, std::string_view key) {
  constexpr std::array kOthers{"dropout",   "fp8",       "init_deviation", "label_smoothing",
                               "loss_rows", "recompute", "weights"};
  if (kind == "resnet" && (key == "height" || key == "width"))
    return false;  // its weights do not depend on them
  return std::ranges::find(kOthers, key) == kOthers.end();
}

/// Truncates a value for messages.
std::string shown(const std::string& text) {
  constexpr size_t kMost = 300;
  return text.size() <= kMost ? text : text.substr(0, kMost) + "...";
}

/// A value of the facts; empty if an older checkpoint, or one of another kind of data, does not have it.
std::string fact(const std::map<std::string, std::string>& facts, const std::string& key) {
  const auto found = facts.find(key);
  return found == facts.end() ? "" : found->second;
}

void compare_fact(std::string_view key, const CheckpointMetadata& then, const RunNow& now,
                  std::vector<Difference>& all) {
  const std::string name(key);
  const auto pair = [&](std::string_view suffix) {
    const std::string at = name + std::string(suffix);
    return std::pair(fact(then.extra, at), fact(now.facts, at));
  };
  const auto differ = [](const auto& texts) {
    return !texts.first.empty() && !texts.second.empty() && texts.first != texts.second;
  };
  const auto listed = pair("");
  const auto contents = pair(kContents);
  if (!fact(then.extra, name + std::string(kUnread)).empty()) {
    all.push_back({name, "content not read in every session (data.verify: quick)",
                   contents.second.empty() ? "not read" : "read", KeyClass::kNote});
  }
  if (!differ(listed) && !differ(contents)) return;
  const auto described = pair(kDescribed);
  if (differ(described)) {
    all.push_back({name, described.first, described.second, KeyClass::kRefuse});
    return;
  }
  const auto& digests = differ(listed) ? listed : contents;
  const auto text = [](const std::string& digest) {
    return digest == kNone ? digest : fmt::format("content {:.16}", digest);
  };
  all.push_back({name, text(digests.first), text(digests.second), KeyClass::kRefuse});
}

void add_facts(std::map<std::string, std::string>& facts, std::string_view key,
               const DataIdentity& identity) {
  const std::string name(key);
  facts[name] = identity.listed;
  if (!identity.contents.empty()) facts[name + std::string(kContents)] = identity.contents;
  facts[name + std::string(kDescribed)] = identity.described;
}

}  // namespace

std::optional<KeyClass> key_class(std::string_view key) {
  const auto found =
      std::find_if(kTable.begin(), kTable.end(), [&](const Entry& entry) { return fits(entry.key, key); });
  if (found == kTable.end()) return std::nullopt;
  return found->change;
}

std::vector<std::string> classified_keys() {
  std::vector<std::string> keys;
  keys.reserve(std::size(kTable));
  for (const Entry& entry : kTable) keys.emplace_back(entry.key);
  return keys;
}

std::map<std::string, std::string> data_facts(const DataIdentity& training,
                                              const std::optional<DataIdentity>& validation,
                                              int64_t samples) {
  constexpr size_t kMostClassBytes = size_t{64} << 10;
  std::map<std::string, std::string> facts;
  add_facts(facts, kTraining, training);
  facts[std::string(kValidation)] = kNone;
  if (validation) add_facts(facts, kValidation, *validation);
  facts["training_samples"] = std::to_string(samples);
  if (!training.classes.empty()) {
    const std::string classes =
        nlohmann::json(training.classes).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
    // If there are too many, the digest of the training data covers them.
    if (classes.size() <= kMostClassBytes) facts[std::string(kClasses)] = classes;
  }
  return facts;
}

void keep_contents(std::map<std::string, std::string>& facts,
                   const std::map<std::string, std::string>& then) {
  for (const std::string_view key : {kTraining, kValidation}) {
    const std::string listed(key);
    const std::string contents = listed + std::string(kContents);
    if (facts.contains(contents) || !then.contains(contents) || fact(facts, listed) != fact(then, listed))
      continue;
    facts[contents] = then.at(contents);
    facts[listed + std::string(kUnread)] = "yes";
  }
  for (const std::string_view key : {kTraining, kValidation}) {
    const std::string unread = std::string(key) + std::string(kUnread);
    if (then.contains(unread)) facts[unread] = then.at(unread);
  }
}

std::vector<Difference> compare(const CheckpointMetadata& then, const RunNow& now) {
  std::vector<Difference> all;
  const auto number = [&](const char* key, const std::string& was, const std::string& is) {
    if (was != is) all.push_back({key, was, is, KeyClass::kRefuse});
  };
  if (then.run_file.empty()) {  // saved by a user program
    number("run.seed", std::to_string(then.seed), std::to_string(now.settings.run.seed));
    if (const std::string batch = fact(then.extra, "batch"); !batch.empty()) {
      number("train.batch", batch, std::to_string(now.settings.train.batch));
    }
  } else {
    all = compare_settings(then, now);
  }
  compare_fact(kTraining, then, now, all);
  compare_fact(kValidation, then, now, all);
  const std::string classes = fact(then.extra, std::string(kClasses));
  const std::string classes_now = fact(now.facts, std::string(kClasses));
  if (!classes.empty() && !classes_now.empty() && classes != classes_now) {
    all.push_back({std::string(kClasses), classes, classes_now, KeyClass::kRefuse});
  }
  const std::string samples = fact(then.extra, "training_samples");
  const std::string samples_now = fact(now.facts, "training_samples");
  if (!samples.empty() && samples != samples_now) {
    all.push_back({std::string(kSamples), samples,
                   fmt::format("{} training samples in {}", samples_now, now.settings.data.path),
                   KeyClass::kRefuse});
  }
  return all;
}

std::vector<Difference> model_differences(const ModelConfig& then, const ModelConfig& now) {
  if (then.kind != now.kind) return {{"model.kind", then.kind, now.kind, KeyClass::kRefuse}};
  std::vector<Difference> all;
  const std::map<std::string, std::string> before = values_of(list_settings(then));
  for (const auto& [key, value] : values_of(list_settings(now))) {
    const auto found = before.find(key);
    if (found != before.end() && found->second != value && changes_function(now.kind, key))
      all.push_back({"model." + key, found->second, value, KeyClass::kRefuse});
  }
  if (now.kind != "gpt" || all.empty()) return all;
  all.clear();  // several values of its keys are equivalent
  for (const GptDifference& d : gpt_differences(now.gpt, then.gpt))
    all.push_back({"model." + d.key, d.right, d.left, KeyClass::kRefuse});
  return all;
}

std::vector<Difference> model_differences(const CheckpointMetadata& then, const ModelConfig& now) {
  if (then.run_file.empty()) return {};
  const SavedSettings saved = saved_settings(then);
  std::vector<Difference> refused;
  for (const Setting& setting : list_settings(now)) {
    const std::string key = "model." + setting.path;
    const std::string why = saved.refused(key);
    if (!why.empty() && changes_function(now.kind, setting.path))
      refused.push_back({key, why, setting.value, KeyClass::kRefuse});
  }
  return refused.empty() ? model_differences(saved.settings.model, now) : refused;
}

std::string tokenizer_of(const CheckpointMetadata& metadata) {
  constexpr std::string_view kFact = ", tokenizer ";  // of TokenCorpus::content()
  const std::string described = fact(metadata.extra, std::string(kTraining) + std::string(kDescribed));
  const size_t at = described.find(kFact);
  if (at == std::string::npos) return "";
  const std::string digest = described.substr(at + kFact.size()).substr(0, 64);
  return digest.find_first_not_of("0123456789abcdef") == std::string::npos && digest.size() == 64 ? digest
                                                                                                  : "";
}

std::vector<std::string> lines(std::span<const Difference> differences) {
  std::vector<std::string> all;
  for (const Difference& difference : differences) {
    all.push_back(fmt::format("{}: {} in the checkpoint, {} now{}", difference.key, shown(difference.then),
                              shown(difference.now),
                              difference.change == KeyClass::kRefuse ? " (--allow-change)" : ""));
  }
  return all;
}

void check_allowed(std::span<const std::string> allowed) {
  std::vector<std::string> names{std::string(kTraining), std::string(kValidation), std::string(kClasses),
                                 std::string(kSamples)};
  const RunSettings defaults;
  for (const Setting& setting : list_settings(defaults, ListedKeys::kAll)) {
    names.push_back(setting.path);
    for (size_t dot = setting.path.find('.'); dot != std::string::npos;
         dot = setting.path.find('.', dot + 1)) {
      names.push_back(setting.path.substr(0, dot));
    }
  }
  for (const std::string& name : allowed) {
    require(std::find(names.begin(), names.end(), name) != names.end(),
            "--allow-change {}: not a key of the run file, nor one of {}, {}, {}, {}{}", name, kTraining,
            kValidation, kClasses, kSamples, did_you_mean(name, names));
  }
}

void refuse_changes(const CheckpointMetadata& then, std::span<const Difference> differences,
                    std::span<const std::string> allowed) {
  std::string lines;
  std::vector<std::string> keys;
  for (const Difference& difference : differences) {
    if (difference.change != KeyClass::kRefuse || is_allowed(difference.key, allowed)) continue;
    lines += fmt::format("  {}: {} in the checkpoint of step {}, {} now\n", difference.key,
                         shown(difference.then), then.step, shown(difference.now));
    keys.push_back(difference.key);
  }
  require(
      keys.empty(),
      "--resume: this is not the run that was saved:\n{}Undo the changes, or allow them: --allow-change {}",
      lines, fmt::join(keys, ","));
}

}  // namespace tutti
