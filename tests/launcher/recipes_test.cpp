#include "launcher/run/run_settings.h"

#include <tutti/core/config/run_file.h>
#include <tutti/models/layers.h>

#include <gtest/gtest.h>

#include <filesystem>

namespace tutti {
namespace {

/// The folder models/recipes of the source tree in which this program was built.
std::filesystem::path recipes() {
  for (auto folder = std::filesystem::canonical("/proc/self/exe").parent_path(); folder != folder.root_path();
       folder = folder.parent_path()) {
    if (std::filesystem::exists(folder / "models/recipes")) return folder / "models/recipes";
  }
  fail("no folder models/recipes above this program");
}

/// The shape of each recipe's data.
DataShape shape_of(const DataConfig& data) {
  if (data.kind == "tokens") return {.sample = {data.context}, .classes = 2048};
  if (data.kind == "idx") return {.sample = {28, 28, 1}, .classes = 10};
  return {.sample = {data.folder.size, data.folder.size, data.folder.channels}, .classes = 1000};
}

TEST(Recipes, AllDefineAModel) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(recipes())) {
    SCOPED_TRACE(entry.path().filename().string());
    ++count;
    RunSettings settings;
    read_run_file(entry.path(), settings);
    EXPECT_FALSE(settings.run.dir.empty());
    EXPECT_GE(settings.train.steps, 20);
    EXPECT_GE(settings.train.steps, settings.schedule.warmup_steps);
    EXPECT_EQ(settings.train.batch % settings.parallel.data.logical_shards, 0) << "shards of different sizes";
    fit_to_data(settings.model, shape_of(settings.data));
    const std::unique_ptr<Task> task = make_task(settings.model);
    EXPECT_GT(count_parameters(task->model()).trainable, 100'000);

    // The run file in a run directory reads back to the same settings.
    RunSettings again;
    read_text(to_yaml(settings), "resolved.yaml", again);
    EXPECT_EQ(to_yaml(again), to_yaml(settings));
  }
  EXPECT_EQ(count, 8);
}

TEST(Recipes, SizesMatchThePublishedModels) {
  const auto trainable = [](const std::string& name) {
    RunSettings settings;
    read_run_file(recipes() / (name + ".yaml"), settings);
    fit_to_data(settings.model, shape_of(settings.data));
    return count_parameters(make_task(settings.model)->model()).trainable;
  };
  EXPECT_EQ(trainable("gpt2-124m"), 124'439'808);
  EXPECT_EQ(trainable("resnet50"), 25'557'032);
}

}  // namespace
}  // namespace tutti
