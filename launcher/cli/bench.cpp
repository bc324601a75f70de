#include "launcher/bench/kernels.h"
#include "launcher/bench/step.h"
#include "launcher/cli/checks.h"
#include "launcher/cli/commands.h"
#include "launcher/cli/set_option.h"

#include <tutti/comm/factory.h>

#include <fmt/ranges.h>
#include <CLI/CLI.hpp>

#include <memory>
#include <ostream>

namespace tutti {
namespace {

struct KernelArguments {
  std::string device = "auto";
  std::string dtype = "fp32";
  int64_t threads = 0;
  double seconds = 0.3;
  std::string only;
  // 0: as suits the device.
  int64_t tokens = 0, context = 0, width = 0, heads = 0, vocabulary = 0, images = 0;
  bool json = false;
};

struct StepArguments {
  std::vector<std::string> run_files;
  StepBenchOptions options;
  bool json = false;
};

ExitCode run_kernels(const KernelArguments& arguments, Console& console) {
  SinglePeer alone;
  const Compute compute(alone, {.threads = arguments.threads, .device = arguments.device});
  KernelBenchOptions options{.sizes = compute.on_cpu() ? KernelSizes{} : KernelSizes::for_cuda(),
                             .dtype = dtype_from_name(arguments.dtype),
                             .budget_s = arguments.seconds,
                             .only = arguments.only};
  const auto choose = [](int64_t& size, int64_t given) {
    if (given > 0) size = given;
  };
  choose(options.sizes.tokens, arguments.tokens);
  choose(options.sizes.context, arguments.context);
  choose(options.sizes.width, arguments.width);
  choose(options.sizes.heads, arguments.heads);
  choose(options.sizes.vocabulary, arguments.vocabulary);
  choose(options.sizes.images, arguments.images);
  const KernelBench bench = bench_kernels(compute, options, [](const KernelResult&) {});
  if (arguments.json) {
    console.out << to_json(bench) << '\n';
    return ExitCode::kDone;
  }
  console.out << table_head(bench);
  for (const KernelResult& result : bench.kernels) console.out << table_line(result);
  return ExitCode::kDone;
}

ExitCode run_steps(const StepArguments& arguments, Console& console) {
  run_world({}, [&](Collective& world) {
    std::vector<StepBench> benches;
    for (const std::string& run_file : arguments.run_files) {
      StepBenchOptions options = arguments.options;
      options.run_file = run_file;
      benches.push_back(bench_step(options, world));
    }
    if (world.rank() == 0) console.out << (arguments.json ? to_json(benches) + "\n" : table(benches));
  });
  return ExitCode::kDone;
}

CLI::App* add_kernels(CLI::App& app, const std::shared_ptr<KernelArguments>& a) {
  CLI::App* const kernels =
      app.add_subcommand("kernels", "Time each operation and compare it with the device's peak rates");
  kernels->add_option("--device", a->device, "auto, cpu or cuda")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  kernels->add_option("--dtype", a->dtype, "fp32 or bf16")
      ->check(CLI::IsMember({"fp32", "bf16"}))
      ->capture_default_str();
  kernels->add_option("--threads", a->threads, "On the CPU; default: all cores")
      ->check(between_numbers(1, kMostThreads));
  kernels->add_option("--seconds", a->seconds, "Time for each kernel; longer times reduce noise")
      ->check(between_numbers(0.001, 3600))
      ->capture_default_str();
  kernels->add_option("--only", a->only, "Only kernels whose names contain this");
  const auto size = [&](const char* option, int64_t& value, const char* help) {
    kernels->add_option(option, value, help)->check(between_numbers(1));
  };
  size("--tokens", a->tokens, "Rows of activations; default: 4096 on the CPU, 65536 on CUDA");
  size("--context", a->context, "Tokens of a sequence; default: 256, 1024");
  size("--width", a->width, "Columns of activations; default: 384, 768");
  size("--heads", a->heads, "Default: 6, 12");
  size("--vocabulary", a->vocabulary, "Default: 4096, 50304");
  size("--images", a->images, "Images of convolutions and related kernels; default: 4, 256");
  kernels->add_flag("--json", a->json, "Print JSON for scripts");
  return kernels;
}

CLI::App* add_step(CLI::App& app, const std::shared_ptr<StepArguments>& a) {
  CLI::App* const step =
      app.add_subcommand("step", "Time the training step of run files on random data, on all ranks");
  step->add_option("RUN.yaml", a->run_files, "Run files; models/recipes holds one for each model")
      ->required();
  add_set_option(*step, a->options.sets, "Override a key of the run files: train.batch=64; may be repeated");
  step->add_option("--steps", a->options.steps, "Measured steps")
      ->check(between_numbers(1, 1e6))
      ->capture_default_str();
  step->add_option("--warmup", a->options.warmup, "Warm-up steps before the measured ones")
      ->check(between_numbers(0, 1e6))
      ->capture_default_str();
  step->add_option("--traced", a->options.traced_steps,
                   "On CUDA: traced steps after them, which show how the device spends its time; 0: none")
      ->check(between_numbers(0, 1000))
      ->capture_default_str();
  step->add_option("--classes", a->options.classes,
                   "Vocabulary or classes if the run file takes them from the data; default: 4096 tokens, 10 "
                   "classes, 1000 for image folders")
      ->check(between_numbers(1));
  step->add_flag("--json", a->json, "Print JSON for scripts");
  return step;
}

CommandAction setup_bench(CLI::App& app) {
  app.require_subcommand(1);
  const auto kernel_arguments = std::make_shared<KernelArguments>();
  const auto step_arguments = std::make_shared<StepArguments>();
  CLI::App* const kernels = add_kernels(app, kernel_arguments);
  (void)add_step(app, step_arguments);
  return [kernels, kernel_arguments, step_arguments](Console& console) {
    return kernels->parsed() ? run_kernels(*kernel_arguments, console) : run_steps(*step_arguments, console);
  };
}

}  // namespace

const Command kBenchCommand{
    "bench", "Measure kernels and training steps on this machine",
    R"(  tutti bench kernels                                  # each operation against copy and product rates
  tutti bench kernels --only norm --dtype bf16
  tutti bench step models/recipes/gpt-bench.yaml       # tokens/s, MFU, memory, where the time goes
  mpirun -n 2 tutti bench step models/recipes/resnet18-fashion.yaml --set run.threads=1
  tutti bench step models/recipes/gpt2-124m.yaml --set train.batch=64 --json)",
    &setup_bench};

}  // namespace tutti
