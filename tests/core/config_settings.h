#pragma once

#include <tutti/core/config/run_file.h>
#include <tutti/core/error.h>

#include <string>
#include <vector>

// Settings of a fictitious program, for tests of run files.
namespace tutti::test {

struct OptimizerSettings {
  double learning_rate = 3e-4;
  std::vector<double> betas = {0.9, 0.95};
  std::optional<double> clip_norm = 1.0;
  std::string algorithm = "adamw";

  void describe(Fields& f) {
    f.choice("algorithm", algorithm, {"sgd", "adamw", "muon"}, "update rule");
    f.value("learning_rate", learning_rate, "peak of the schedule", positive());
    f.value("betas", betas, "decay of the two moments", list_of(2, 0, 1));
    f.value("clip_norm", clip_norm, "largest gradient norm", positive());
  }
};

struct ModelSettings {
  int64_t layers = 6;
  int64_t heads = 6;
  int64_t width = 384;
  double dropout = 0;
  DType dtype = DType::kFloat32;

  void describe(Fields& f) {
    f.value("layers", layers, "number of blocks", at_least(1));
    f.value("heads", heads, "attention heads", at_least(1));
    f.value("width", width, "channels", between(1, 65536));
    f.check(width % heads == 0, "width", fmt::format("must be a multiple of heads ({})", heads));
    f.value("dropout", dropout, "probability of dropping an activation", fraction_below_one());
    f.value("dtype", dtype, "of activations");
  }
};

struct Settings {
  std::string name = "run";
  bool shuffle = true;
  std::vector<std::string> tags;
  std::vector<int64_t> sizes = {1, 2};
  std::optional<std::string> comment;
  std::optional<int64_t> seed;
  std::optional<bool> flag;
  std::optional<DType> dtype;
  ModelSettings model;
  OptimizerSettings optimizer;

  void describe(Fields& f) {
    f.value("name", name, "of the run", not_empty());
    f.value("shuffle", shuffle, "whether samples are shuffled");
    f.value("tags", tags, "labels");
    f.value("sizes", sizes, "some sizes", at_least(0));
    f.value("comment", comment, "free text");
    f.value("seed", seed, "of all random numbers");
    f.value("flag", flag, "yes, no or unknown");
    f.value("dtype", dtype, "unless given");
    f.section("model", model, "what is trained");
    f.section("optimizer", optimizer, "how weights are updated");
  }
};

inline Settings read(const std::string& text, const std::vector<std::string>& sets = {}) {
  Settings settings;
  read_text(text, "run.yaml", settings, sets);
  return settings;
}

/// The error message of a text; "" if it is accepted.
inline std::string refusal(const std::string& text, const std::vector<std::string>& sets = {}) {
  try {
    (void)read(text, sets);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace tutti::test
