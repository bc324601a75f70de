#include "launcher/run/run_settings.h"

namespace tutti {

void RunSection::describe(Fields& f) {
  f.path("dir", dir, "directory of this run; empty: runs/ and the run file's name");
  f.value("seed", seed, "seed of initial values, data order, dropout and augmentation", not_negative());
  compute.describe(f);
}

void RunSettings::describe(Fields& f) {
  f.section("run", run, "directory and devices of a run");
  f.section("data", data, "what to train on");
  f.section("model", model, "what to train");
  f.section("optimizer", optimizer, "how weights are updated");
  f.section("schedule", schedule, "how the learning rate changes");
  f.section("train", train, "how long and how much at a time");
  f.section("precision", precision, "dtypes");
  f.section("parallel", parallel, "how work is divided among ranks");
  f.section("checkpoint", checkpoint, "when to save and what to keep");
  f.section("metrics", metrics, "metrics of the running training for Prometheus, over HTTP");
}

}  // namespace tutti
