#include "launcher/run/run_settings.h"

namespace tutti {

void RunSection::describe(Fields& f) {
  f.path("dir", dir, "directory of this run; empty: runs/ and the run file's name");
  f.value("seed", seed, "of first values, data order, dropout and augmentation", not_negative());
  f.value("threads", threads, "threads a rank; 0: an even share of the host's cores", between(0, 4096));
  f.choice("device", device, {"auto", "cpu", "cuda"},
           "what to train on: one GPU a rank, or the CPU; auto: GPUs where there are any");
  f.value("share_gpus", share_gpus, "let several ranks use one GPU: to try things out, never for speed");
}

void PrecisionSection::describe(Fields& f) {
  f.value("compute", compute, "dtype of weights and activations in forward and backward: fp32 or bf16");
  f.value("grad", grad, "dtype that gradients are summed and reduced in: fp32 or bf16");
  const auto allowed = [](DType dtype) { return dtype == DType::kFloat32 || dtype == DType::kBFloat16; };
  f.check(allowed(compute), "compute", "must be fp32 or bf16");
  f.check(allowed(grad), "grad", "must be fp32 or bf16");
}

void ParallelSection::describe(Fields& f) {
  data.describe(f);
  f.value("zero", zero, "1: each rank keeps and updates only its part of the optimizer's state (ZeRO-1)",
          between(0, 1));
  f.value("bucket_mib", bucket_mib, "gradients are reduced in buckets of this size", at_least(1));
  f.choice(
      "gpu_backend", gpu_backend, {"auto", "nccl", "host"},
      "how GPUs add gradients: by NCCL, or through the host and MPI; auto: nccl unless ranks share GPUs");
  f.value("max_ctas", max_ctas,
          "NCCL: most blocks of a GPU that adding gradients takes from backward; 0: as NCCL chooses",
          at_least(0));
  f.value("timeout_s", timeout_s, "NCCL: an operation that a rank does not join for so long ends the run",
          positive());
}

void RunSettings::describe(Fields& f) {
  f.section("run", run, "where a run goes and what it runs on");
  f.section("data", data, "what to train on");
  f.section("model", model, "what to train");
  f.section("optimizer", optimizer, "how weights are updated");
  f.section("schedule", schedule, "how the learning rate changes");
  f.section("train", train, "how long and how much at a time");
  f.section("precision", precision, "dtypes");
  f.section("parallel", parallel, "how work is spread over ranks");
  f.section("checkpoint", checkpoint, "when to save and what to keep");
  f.section("metrics", metrics, "figures of the running training for Prometheus, over HTTP");
}

}  // namespace tutti
