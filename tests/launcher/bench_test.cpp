#include "launcher/bench/device_trace.h"
#include "launcher/bench/kernels.h"
#include "launcher/bench/step.h"
#include "launcher/bench/timing.h"
#include "tests/temporary_directory.h"

#include <tutti/comm/threads.h>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <fstream>
#include <set>

namespace tutti {
namespace {

constexpr KernelSizes kTiny{
    .tokens = 24, .context = 8, .width = 24, .heads = 3, .vocabulary = 50, .images = 1};

TEST(Timing, CallsAreCounted) {
  ThreadPool pool(1);
  const Stream stream = Stream::inline_on(pool);
  int64_t calls = 0;
  const Timing timing = measure(stream, 0.01, [&] { ++calls; });
  EXPECT_EQ(calls, timing.calls_timed + 2) << "two more calls are the warm-up";
  EXPECT_GT(timing.calls_timed, 3);
  EXPECT_LE(timing.best_s, timing.seconds);
}

TEST(DeviceTime, KernelsAreClassifiedByTheirNames) {
  const std::pair<const char*, DeviceWork> known[] = {
      {"nvjet_sm90_tst_256x128_64x4_1x2_h_bz_coopA_bias_TNN", DeviceWork::kProducts},
      {"void cutlass::Kernel2<cutlass_80_simt_sgemm_128x64_8x5_tn_align1>", DeviceWork::kProducts},
      {"cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7", DeviceWork::kAttention},
      {"sm90_xmma_wgrad_implicit_gemm_indexed_bf16bf16_bf16f32_f32_nhwckrsc_nhwc", DeviceWork::kConvolutions},
      {"_ZN5tutti4cuda12_GLOBAL__N_120warp_backward_kernelILb1ELi3E", DeviceWork::kOwn},
      {"ncclDevKernel_AllReduce_Sum_f32_RING_LL", DeviceWork::kCollectives},
      {"memset", DeviceWork::kCopies},
      {"something else", DeviceWork::kOther}};
  for (const auto& [kernel, work] : known) EXPECT_EQ(work_of(kernel), work) << kernel;
}

TEST(DeviceTime, BusyAndIdleTimeOfSteps) {
  // Two steps from 100 to 200 and from 200 to 300; work outside is not counted; the time before the
  // first and after the last work of a step is idle.
  const std::vector<DeviceSpan> spans{
      {250, 260, "tutti"},  {110, 130, "nvjet"}, {120, 125, "nccl"},  // inside the one before
      {128, 140, "nccl"},                                             // reaches further
      {150, 160, "memcpy"}, {40, 90, "tutti"},   {300, 320, "tutti"}, {240, 250, "nvjet"}};
  const std::vector<int64_t> marks{100, 200, 300};
  const DeviceTime time = device_time(spans, marks);
  EXPECT_DOUBLE_EQ(time.busy_s, (30 + 10 + 20) / 2.0 * 1e-9);
  EXPECT_DOUBLE_EQ(time.idle_s, (200 - 60) / 2.0 * 1e-9);
  const auto of = [&](DeviceWork work) { return time.work_s.at(static_cast<size_t>(work)); };
  EXPECT_DOUBLE_EQ(of(DeviceWork::kProducts), (20 + 10) / 2.0 * 1e-9);
  EXPECT_DOUBLE_EQ(of(DeviceWork::kCollectives), (5 + 12) / 2.0 * 1e-9);
  EXPECT_DOUBLE_EQ(of(DeviceWork::kOwn), 10 / 2.0 * 1e-9);
  EXPECT_DOUBLE_EQ(of(DeviceWork::kCopies), 10 / 2.0 * 1e-9);
  EXPECT_THROW((void)device_time(spans, std::span(marks).first(1)), Error);
}

TEST(BenchKernels, EveryOperationRunsForwardAndBackward) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    ThreadPool pool(1);
    const Stream stream = Stream::inline_on(pool);
    std::set<std::string> names;
    for (const KernelCase& one : kernel_cases(kTiny, dtype)) {
      SCOPED_TRACE(one.name);
      EXPECT_TRUE(names.insert(one.name).second);
      EXPECT_GT(one.forward.bytes, 0);
      const KernelWork work = one.prepare(stream);
      EXPECT_EQ(work.output_gradient.defined(), one.backward.bytes > 0);
      Tape tape(stream, StepContext{});
      const Var y = work.forward(tape);
      if (!work.output_gradient.defined()) continue;
      EXPECT_TRUE(y.needs_grad()) << "there is no backward to time";
      EXPECT_NO_THROW(tape.backward(y, work.output_gradient));
    }
    EXPECT_GE(names.size(), 20U);
  }
}

TEST(BenchKernels, ResultsAreConsistent) {
  SinglePeer alone;
  const Compute device(alone, {.threads = 1, .device = "cpu"});
  const KernelBenchOptions options{.sizes = kTiny, .budget_s = 0.001, .only = "norm"};
  int64_t calls = 0;
  const KernelBench bench = bench_kernels(device, options, [&](const KernelResult&) { ++calls; });
  EXPECT_EQ(calls, static_cast<int64_t>(bench.kernels.size()));
  const auto json = nlohmann::json::parse(to_json(bench));
  const double copy = json.at("ceilings").at("copy_bytes_per_s").get<double>();
  EXPECT_GT(copy, 0);
  EXPECT_GT(json.at("ceilings").at("gemm_flops_per_s").get<double>(), 0);
  int64_t timed = 0;
  for (const auto& row : json.at("kernels")) {
    EXPECT_NE(row.at("name").get<std::string>().find("norm"), std::string::npos);
    if (row.contains("error")) continue;  // at this size, backward may be shorter than the variation
    ++timed;
    EXPECT_NEAR(row.at("share").get<double>(), row.at("bytes_per_s").get<double>() / copy, 1e-9);
  }
  EXPECT_GE(timed, 4);
  for (const KernelResult& result : bench.kernels)
    EXPECT_NE(table_line(result).find(result.name), std::string::npos);
}

TEST(BenchKernels, BadInput) {
  SinglePeer alone;
  const Compute device(alone, {.threads = 1, .device = "cpu"});
  try {
    (void)bench_kernels(device, {.sizes = kTiny, .budget_s = 0.001, .only = "sofmax"},
                        [](const KernelResult&) {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("layer_norm"), std::string::npos) << error.what();
  }
  EXPECT_THROW((void)kernel_cases({.tokens = 10, .context = 8}, DType::kFloat32), Error);
  EXPECT_THROW((void)kernel_cases(kTiny, DType::kFloat64), Error);
}

TEST(BenchStep, ARunFileOnSeveralRanks) {
  const TemporaryDirectory work;
  const auto run_file = work.path() / "tiny.yaml";
  std::ofstream(run_file) << "data: {kind: tokens, context: 8}\n"
                             "model: {kind: gpt, layers: 1, width: 16, heads: 2}\n"
                             "train: {batch: 8}\n"
                             "run: {device: cpu, threads: 1}\n";
  for (const int ranks : {1, 3}) {
    std::vector<StepBench> benches(static_cast<size_t>(ranks));
    run_ranks(ranks, [&](Collective& world) {
      benches[static_cast<size_t>(world.rank())] = bench_step({.run_file = run_file,
                                                               .sets = {"model.width=24"},
                                                               .steps = 3,
                                                               .warmup = 1,
                                                               .classes = 40,
                                                               .budget_s = 0.01},
                                                              world);
    });
    const StepBench& bench = benches.front();
    EXPECT_EQ(bench.ranks, ranks);
    EXPECT_EQ(bench.recipe, "tiny");
    EXPECT_NEAR(bench.items_per_s, 64 / bench.step_s, 1e-6 * bench.items_per_s);
    EXPECT_NEAR(bench.utilisation, bench.flops_per_s / bench.ceilings.gemm_flops_per_s / ranks, 1e-9);
    EXPECT_LE(bench.fastest_step_s, bench.step_s);
    EXPECT_NEAR(bench.loss, std::log(40), 1.0) << "an untrained model";
    const auto json = nlohmann::json::parse(to_json(benches));
    EXPECT_EQ(json.size(), benches.size());
    EXPECT_GT(json[0].at("tokens_per_s").get<double>(), 0);
    EXPECT_NE(table(benches).find("tiny"), std::string::npos);
    // Steps without an update are no steps to time.
    const std::vector<std::string> diverges{"optimizer.learning_rate=1e30", "optimizer.clip_norm=0",
                                            "train.max_skipped_steps=0"};
    run_ranks(ranks, [&](Collective& world) {
      EXPECT_THROW((void)bench_step({.run_file = run_file,
                                     .sets = diverges,
                                     .steps = 3,
                                     .warmup = 4,
                                     .classes = 40,
                                     .budget_s = 0.01},
                                    world),
                   AgreedError);
    });
  }
}

}  // namespace
}  // namespace tutti
