#include "launcher/run/own_run.h"
#include "launcher/metrics/repair.h"

#include <tutti/core/error.h>
#include "core/config/tolerant.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/temporary_directory.h"

namespace tutti {
namespace {

namespace fs = std::filesystem;

std::string manifest(const std::string& working_directory) {
  return R"({"format": "tutti-run", "sessions": [{"working_directory": "/nowhere"}, {"working_directory": ")" +
         working_directory + "\"}]}";
}

TEST(OwnRunTest, RelativePathsAreResolvedFromTheRecordedWorkingDirectory) {
  const TemporaryDirectory folder;
  const fs::path run = folder / "moved";
  fs::create_directories(run);
  write_all(run / "manifest.json", manifest((folder / "start").string()));
  write_all(run / "run.yaml",
            "run: {dir: runs/a}\ndata: {path: tokens, validation_path: /else/where}\nmodel: {weights: "
            "w.safetensors}\n"
            "checkpoint: {dir: runs/a/saved}\nmetrics: {token_file: ''}\n");
  EXPECT_TRUE(is_own_run_file(run / "run.yaml"));
  const OwnRun own = read_own_run(run);
  EXPECT_TRUE(own.warnings.empty());
  EXPECT_EQ(own.settings.run.dir, run.string());
  EXPECT_EQ(own.settings.data.path, (folder / "start" / "tokens").string());
  EXPECT_EQ(own.settings.data.validation_path, "/else/where");
  EXPECT_EQ(own.settings.model.weights, (folder / "start" / "w.safetensors").string());
  EXPECT_EQ(own.settings.checkpoint.dir, (run / "saved").string());
  EXPECT_EQ(own.settings.metrics.token_file, "");
  // A run.yaml of this version has absolute paths and does not depend on the manifest.
  write_all(run / "run.yaml",
            "run: {dir: /x/runs/a}\ndata: {path: /x/tokens}\ncheckpoint: {dir: /x/runs/a/saved}\n");
  write_all(run / "manifest.json", "damaged");
  EXPECT_TRUE(is_own_run_file(run / "run.yaml"));
  EXPECT_EQ(read_own_run(run).settings.data.path, "/x/tokens");
  EXPECT_EQ(read_own_run(run).settings.checkpoint.dir, (run / "saved").string());
}

TEST(OwnRunTest, OnlyRunYamlNextToAManifestIsOne) {
  const TemporaryDirectory folder;
  write_all(folder / "run.yaml", "train: {steps: 3}\n");
  EXPECT_FALSE(is_own_run_file(folder / "run.yaml"));
  write_all(folder / "manifest.json", R"({"name": "a web page"})");
  EXPECT_FALSE(is_own_run_file(folder / "run.yaml"));
  write_all(folder / "manifest.json", manifest("/"));
  EXPECT_TRUE(is_own_run_file(folder / "run.yaml"));
  write_all(folder / "other.yaml", "train: {steps: 3}\n");
  EXPECT_FALSE(is_own_run_file(folder / "other.yaml"));
  EXPECT_EQ(run_file_of(folder.path()), folder / "run.yaml");
  EXPECT_EQ(run_file_of(folder / "other.yaml"), folder / "other.yaml");
  fs::remove(folder / "run.yaml");
  EXPECT_THROW((void)run_file_of(folder.path()), Error);
}

TEST(OwnRunTest, UnknownKeysAreWarningsAndInvalidValuesErrors) {
  const TemporaryDirectory folder;
  write_all(folder / "manifest.json", manifest("/"));
  write_all(folder / "run.yaml",
            "data: {path: /tokens}\nmodel:\n  heads: 4\n  gone: 5\nforgotten: {a: 1, b: 2}\n");
  const OwnRun own = read_own_run(folder.path());
  ASSERT_EQ(own.warnings.size(), 2U);
  EXPECT_NE(own.warnings[0].find("model.gone"), std::string::npos);
  EXPECT_NE(own.warnings[1].find("forgotten"), std::string::npos);
  EXPECT_EQ(own.settings.model.gpt.heads, 4);
  write_all(folder / "run.yaml", "train:\n  steps: many\n  batch: -1\n");
  try {
    (void)read_own_run(folder.path());
    FAIL();
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("run.yaml:2: train.steps: expected an integer"), std::string::npos) << message;
    EXPECT_NE(message.find("run.yaml:3: train.batch: "), std::string::npos) << message;
  }
}

// A new key with a path must be made absolute in run.yaml, so that the run can be used from any directory.

TEST(OwnRunTest, AllKeysWithPathsAreListed) {
  const RunSettings defaults;
  const std::vector<std::string> known = path_keys();
  for (const Setting& setting : list_settings(defaults, ListedKeys::kAll)) {
    const std::string key = setting.path.substr(setting.path.rfind('.') + 1);
    const bool path = key == "dir" || key == "weights" || key == "path" || key == "file" || key == "skip" ||
                      key.ends_with("_path") || key.ends_with("_dir") || key.ends_with("_file");
    EXPECT_EQ(path, std::find(known.begin(), known.end(), setting.path) != known.end()) << setting.path;
  }
}

TEST(RepairTest, LinesThatAreNotRecordsAreRemoved) {
  const TemporaryDirectory folder;
  const fs::path file = folder / "metrics.jsonl";
  EXPECT_EQ(repair_records(file), "");
  const std::string a = "{\"kind\":\"step\",\"step\":1}\n";
  const std::string b = "{\"kind\":\"step\",\"step\":2}\n";
  write_all(file, a + b);
  EXPECT_EQ(repair_records(file), "");
  write_all(file, a + b + "{\"kind\":\"st");  // truncated: removed by the writer
  EXPECT_EQ(repair_records(file), "");
  EXPECT_EQ(read_all(file), a + b + "{\"kind\":\"st");
  for (const std::string& damage :
       {std::string("garbage\n"), std::string("\0\0\0\n", 4), std::string("{\"step\":\"x\"}\n"),
        std::string("\n"), std::string("[1]\n{}\n")}) {
    for (const std::string& text : {a + b + damage, a + damage + b, damage + a + b}) {
      write_all(file, text);
      const std::string message = repair_records(file);
      EXPECT_NE(message.find("removed"), std::string::npos) << message;
      EXPECT_EQ(read_all(file), a + b);
    }
  }
  write_all(file, "nothing\nof ours\n");
  EXPECT_NE(repair_records(file).find("metrics.jsonl.damaged"), std::string::npos);
  EXPECT_FALSE(fs::exists(file));
  EXPECT_EQ(read_all(folder / "metrics.jsonl.damaged"), "nothing\nof ours\n");
}

}  // namespace
}  // namespace tutti
