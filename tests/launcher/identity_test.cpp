#include "launcher/run/identity.h"

#include <tutti/core/config/run_file.h>
#include <tutti/core/error.h>
#include "core/config/tolerant.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace tutti {
namespace {

RunSettings settings_of(const std::vector<std::string>& sets = {}) {
  RunSettings settings;
  RunFile file;
  for (const char* base : {"data.path=tokens", "parallel.mode=ordered"}) file.set(base);
  for (const std::string& set : sets) file.set(set);
  file.read(settings);
  return settings;
}

CheckpointMetadata saved(const RunSettings& settings, std::map<std::string, std::string> facts = {}) {
  CheckpointMetadata metadata;
  metadata.step = 40;
  metadata.run_file = to_yaml(settings);
  metadata.extra = std::move(facts);
  return metadata;
}

std::vector<Difference> differences(const CheckpointMetadata& then, const RunSettings& now,
                                    const std::map<std::string, std::string>& facts = {}, int64_t ranks = 1) {
  return compare(then, {now, facts, ranks});
}

std::string refusal(const CheckpointMetadata& then, const std::vector<Difference>& all,
                    const std::vector<std::string>& allowed = {}) {
  try {
    refuse_changes(then, all, allowed);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

bool fits(const std::string& entry, const std::string& key) {
  return entry.ends_with(".*") ? key.starts_with(entry.substr(0, entry.size() - 1)) : entry == key;
}

// The effect of a change of a key on a resumed run must be declared for each new key, in the table of
// launcher/run/identity.cpp.
TEST(IdentityTest, EveryKeyHasAClassAndEveryEntryIsAKey) {
  const RunSettings defaults;
  std::set<std::string> keys{"data.training", "data.validation", "data.classes", "data.samples"};
  for (const Setting& setting : list_settings(defaults, ListedKeys::kAll)) {
    keys.insert(setting.path);
    EXPECT_TRUE(key_class(setting.path).has_value())
        << setting.path << " has no class in launcher/run/identity.cpp";
  }
  for (const std::string& entry : classified_keys()) {
    EXPECT_TRUE(
        std::any_of(keys.begin(), keys.end(), [&](const std::string& key) { return fits(entry, key); }))
        << entry << " is not a key";
  }
  EXPECT_FALSE(key_class("train.new_key").has_value());
  EXPECT_FALSE(key_class("data.new_key").has_value());
  EXPECT_EQ(key_class("model.new_key"), KeyClass::kRefuse);
}

TEST(IdentityTest, EqualSettingsHaveNoDifferences) {
  EXPECT_TRUE(differences(saved(settings_of()), settings_of()).empty());
  EXPECT_TRUE(
      differences(saved(settings_of({"model.kind=resnet"})), settings_of({"model.kind=resnet"})).empty());
}

TEST(IdentityTest, ChangesOfTheFunctionAreListedAndRefused) {
  const CheckpointMetadata then = saved(settings_of());
  const std::vector<std::pair<std::string, std::string>> changes{{"model.heads", "2"},
                                                                 {"model.activation", "relu"},
                                                                 {"model.norm_eps", "0.001"},
                                                                 {"model.dropout", "0.2"},
                                                                 {"model.label_smoothing", ""},
                                                                 {"optimizer.algorithm", "sgd"},
                                                                 {"optimizer.betas", "[0.8, 0.9]"},
                                                                 {"optimizer.weight.weight_decay", "0.5"},
                                                                 {"schedule.kind", "constant"},
                                                                 {"schedule.warmup_steps", "9"},
                                                                 {"precision.compute", "bf16"},
                                                                 {"precision.grad", "bf16"},
                                                                 {"parallel.logical_shards", "8"},
                                                                 {"run.seed", "8"},
                                                                 {"train.batch", "7"},
                                                                 {"train.microbatch", "2"},
                                                                 {"train.gpu_microbatch", "2"},
                                                                 {"data.context", "99"}};
  std::vector<std::string> sets;
  for (const auto& [key, value] : changes) {
    if (value.empty()) continue;
    const auto one = differences(then, settings_of({key + "=" + value}));
    ASSERT_EQ(one.size(), 1U) << key;
    EXPECT_EQ(one[0].key, key);
    EXPECT_EQ(one[0].change, KeyClass::kRefuse);
    const std::string message = refusal(then, one);
    EXPECT_NE(message.find(
                  fmt::format("{}: {} in the checkpoint of step 40, {} now", key, one[0].then, one[0].now)),
              std::string::npos)
        << message;
    EXPECT_NE(message.find("--allow-change " + key), std::string::npos) << message;
    EXPECT_EQ(refusal(then, one, {key}), "");
    EXPECT_EQ(refusal(then, one, {key.substr(0, key.find('.'))}), "");
    EXPECT_NE(refusal(then, one, {"model.width"}), "");
    sets.push_back(key + "=" + value);
  }
  const auto all = differences(then, settings_of(sets));
  EXPECT_EQ(all.size(), sets.size());
  const std::string message = refusal(then, all);
  for (const Difference& difference : all) {
    EXPECT_NE(message.find("  " + difference.key + ": "), std::string::npos) << message;
  }
  EXPECT_NE(differences(saved(settings_of()), settings_of({"parallel.mode=fast"})).size(), 0U);
}

TEST(IdentityTest, OtherChangesAreAllowed) {
  const CheckpointMetadata then = saved(settings_of());
  for (const char* set : {"run.dir=elsewhere", "run.threads=3", "data.path=other", "data.threads=2",
                          "data.ahead=5", "data.verify=quick", "train.evaluate_every=3", "checkpoint.every=7",
                          "checkpoint.dir=x", "metrics.port=9000", "parallel.zero=1", "parallel.bucket_mib=2",
                          "model.recompute=true", "model.weights=w.safetensors", "train.microbatch=8",
                          "train.microbatch=100", "train.gpu_microbatch=8"}) {
    EXPECT_TRUE(differences(then, settings_of({set})).empty()) << set;
  }
  const TrainConfig train = settings_of({"train.microbatch=3", "train.gpu_microbatch=9"}).train;
  EXPECT_EQ(train.microbatch_on(DeviceType::kCuda), 9);
  EXPECT_EQ(train.microbatch_on(DeviceType::kCpu), 3);
  // A microbatch changes sums if it divides a part of the batch: 32 samples in 4 parts.
  EXPECT_EQ(differences(then, settings_of({"train.microbatch=7"})).size(), 1U);
  for (const char* noted : {"optimizer.learning_rate=0.5", "train.steps=77", "run.device=cpu"}) {
    const auto one = differences(then, settings_of({noted}));
    ASSERT_EQ(one.size(), 1U) << noted;
    EXPECT_EQ(one[0].change, KeyClass::kNote);
    EXPECT_EQ(refusal(then, one), "");
    EXPECT_EQ(lines(one).size(), 1U);
  }
  // Without a schedule, the number of steps has no effect.
  const std::string constant = "schedule.kind=constant";
  EXPECT_TRUE(differences(saved(settings_of({constant})), settings_of({constant, "train.steps=77"})).empty());
}

TEST(IdentityTest, RunFilesOfOtherVersionsAreComparedByCommonKeys) {
  CheckpointMetadata then = saved(settings_of());
  const std::string text = then.run_file;
  // A removed key, an added key, and a key with a value that is not valid in this version.
  then.run_file = text + "forgotten:\n  section: 1\n";
  EXPECT_TRUE(differences(then, settings_of()).empty());
  const size_t at = text.find("  dropout:");
  ASSERT_NE(at, std::string::npos);
  then.run_file = text.substr(0, at) + text.substr(text.find('\n', at) + 1);
  EXPECT_TRUE(differences(then, settings_of()).empty());
  EXPECT_EQ(differences(then, settings_of({"model.dropout=0.5"})).size(), 1U);
  then.run_file = text;
  const std::string old = "  activation: gelu_tanh";
  ASSERT_NE(text.find(old), std::string::npos) << text;
  then.run_file.replace(text.find(old), old.size(), "  activation: mish");
  const auto one = differences(then, settings_of());
  ASSERT_EQ(one.size(), 1U);
  EXPECT_EQ(one[0].key, "model.activation");
  EXPECT_NE(one[0].then.find("mish"), std::string::npos);
  // A user-defined program saved no run file.
  then.run_file = "";
  then.seed = 1;
  EXPECT_TRUE(differences(then, settings_of()).empty());
  then.seed = 2;
  then.extra["batch"] = "9";
  EXPECT_EQ(differences(then, settings_of()).size(), 2U);
  // The same number in another notation is equal.
  then = saved(settings_of());
  const std::string rate = "  learning_rate: 0.001";
  if (const size_t found = then.run_file.find(rate); found != std::string::npos) {
    then.run_file.replace(found, rate.size(), "  learning_rate: 1e-3");
    EXPECT_TRUE(differences(then, settings_of()).empty());
  }
}

TEST(IdentityTest, DataIsComparedByContentClassesAndNumber) {
  DataIdentity training{
      .listed = "aa", .contents = "bb", .described = "2 files of 9 bytes", .classes = {"cat", "dog"}};
  const DataIdentity validation{
      .listed = "cc", .contents = "", .described = "1 files of 3 bytes", .classes = {}};
  const auto facts = data_facts(training, validation, 100);
  const CheckpointMetadata then = saved(settings_of(), facts);
  EXPECT_TRUE(differences(then, settings_of({"data.path=moved"}), facts).empty());
  const auto keys = [&](const std::map<std::string, std::string>& now) {
    std::set<std::string> found;
    for (const Difference& difference : differences(then, settings_of(), now)) found.insert(difference.key);
    return found;
  };
  EXPECT_EQ(keys(data_facts(training, std::nullopt, 100)), std::set<std::string>{"data.validation"});
  EXPECT_EQ(keys(data_facts(training, validation, 99)), std::set<std::string>{"data.samples"});
  DataIdentity other = training;
  other.contents = "bx";
  EXPECT_EQ(keys(data_facts(other, validation, 100)), std::set<std::string>{"data.training"});
  other.contents = "";  // not read in this session: names and sizes are equal
  EXPECT_TRUE(keys(data_facts(other, validation, 100)).empty());
  // The identity of the contents is kept, and that they were not read since.
  auto unread = data_facts(other, validation, 100);
  keep_contents(unread, facts);
  auto expected = facts;
  expected["data.training.unread"] = "yes";
  EXPECT_EQ(unread, expected);
  auto read_again = facts;
  keep_contents(read_again, unread);
  EXPECT_EQ(read_again, expected);
  other.listed = "ax";
  unread = data_facts(other, validation, 100);
  keep_contents(unread, facts);
  EXPECT_FALSE(unread.contains("data.training.contents"));
  other = training;
  other.listed = "ax";
  other.classes = {"dog", "cat"};
  EXPECT_EQ(keys(data_facts(other, validation, 100)),
            (std::set<std::string>{"data.training", "data.classes"}));
  const auto all = differences(then, settings_of(), data_facts(other, validation, 100));
  EXPECT_NE(refusal(then, all).find(
                R"(data.classes: ["cat","dog"] in the checkpoint of step 40, ["dog","cat"] now)"),
            std::string::npos)
      << refusal(then, all);
  EXPECT_EQ(refusal(then, all, {"data"}), "");
  // A checkpoint of an earlier version has only the number of samples.
  EXPECT_TRUE(differences(saved(settings_of(), {{"training_samples", "100"}}), settings_of(), facts).empty());
  EXPECT_EQ(differences(saved(settings_of(), {{"training_samples", "101"}}), settings_of(), facts).size(),
            1U);
  EXPECT_TRUE(differences(saved(settings_of()), settings_of(), facts).empty());
}

std::vector<std::string> model_keys(const CheckpointMetadata& then, const RunSettings& now) {
  std::vector<std::string> found;
  for (const Difference& d : model_differences(then, now.model)) found.push_back(d.key);
  return found;
}

// Weights of a checkpoint that begin another run, and `tutti evaluate --set`.
TEST(IdentityTest, ChangesOfTheFunctionOfWeightsAreModelDifferences) {
  using Keys = std::vector<std::string>;
  const std::vector<std::string> gpt{"model.vocabulary=50", "model.context=16"};
  const auto with = [&](const std::vector<std::string>& base, const std::string& set) {
    std::vector<std::string> sets = base;
    sets.push_back(set);
    return settings_of(sets);
  };
  const CheckpointMetadata then = saved(settings_of(gpt));
  for (const auto& [key, value] :
       {std::pair{"model.activation", "relu"}, std::pair{"model.norm_eps", "0.001"},
        std::pair{"model.attention.window", "2"}, std::pair{"model.attention.scale", "0.5"}}) {
    const auto all = model_differences(then, with(gpt, fmt::format("{}={}", key, value)).model);
    ASSERT_EQ(all.size(), 1U) << key;
    EXPECT_EQ(all[0].key, key);
    EXPECT_EQ(all[0].now, value);
    EXPECT_NE(all[0].then, value);
  }
  for (const char* const set :
       {"model.dropout=0.5", "model.init_deviation=0.5", "model.recompute=true", "model.loss_rows=3",
        "model.fp8=linear", "model.weights=w.safetensors", "model.context=32", "model.kv_heads=6",
        "model.attention.window=16", "run.seed=9", "train.batch=3"}) {
    EXPECT_EQ(model_keys(then, with(gpt, set)), Keys{}) << set;
  }
  const Keys heads = model_keys(then, with(gpt, "model.heads=2"));
  EXPECT_NE(std::ranges::find(heads, "model.heads"), heads.end());
  const std::vector<std::string> resnet{"model.kind=resnet", "model.classes=5", "model.height=32",
                                        "model.width=32"};
  const CheckpointMetadata images = saved(settings_of(resnet));
  EXPECT_EQ(model_keys(images, with(resnet, "model.stem=small_strided")), Keys{"model.stem"});
  EXPECT_EQ(model_keys(images, with(resnet, "model.height=40")), Keys{});
  EXPECT_EQ(model_keys(images, with(resnet, "model.label_smoothing=0.1")), Keys{});
  EXPECT_EQ(model_keys(images, settings_of(gpt)), Keys{"model.kind"});
  EXPECT_EQ(model_keys({}, settings_of(gpt)), Keys{});  // saved by a user-defined program
  CheckpointMetadata newer = then;
  const size_t at = newer.run_file.find("norm: layer");
  ASSERT_NE(at, std::string::npos);
  newer.run_file.replace(at, 11, "norm: batch");
  EXPECT_EQ(model_keys(newer, settings_of(gpt)), Keys{"model.norm"});
}

TEST(IdentityTest, ACheckpointRecordsTheTokenizerOfItsData) {
  const std::string digest(64, 'a');
  const auto of = [](const std::string& described) {
    return tokenizer_of(saved(settings_of(), {{"data.training.described", described}}));
  };
  EXPECT_EQ(of("1 files of 9 bytes, tokens 4, vocabulary 3, tokenizer " + digest), digest);
  EXPECT_EQ(of("1 files of 9 bytes, tokens 4, vocabulary 3, tokenizer none"), "");
  EXPECT_EQ(of("1 files of 9 bytes"), "");
  EXPECT_EQ(tokenizer_of({}), "");
}

TEST(IdentityTest, AllowedKeysMustExist) {
  EXPECT_NO_THROW(
      check_allowed(std::vector<std::string>{"model.heads", "optimizer", "data.training", "data.image"}));
  try {
    check_allowed(std::vector<std::string>{"model.hads"});
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("model.heads"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace tutti
