#include "launcher/bench/kernels.h"

#include "launcher/bench/timing.h"

#include <tutti/kernels/fp8.h>
#include <tutti/kernels/matmul.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

namespace tutti {
namespace {

using Json = nlohmann::ordered_json;

KernelResult kernel_result(const KernelCase& one, const char* suffix, const Cost& cost, double seconds,
                           const Ceilings& ceilings) {
  KernelResult result{.name = one.name + suffix, .shape = one.shape, .seconds = seconds, .error = ""};
  result.bytes_per_s = cost.bytes / seconds;
  result.flops_per_s = cost.flops / seconds;
  result.share = cost.flops > 0 ? result.flops_per_s / ceilings.gemm_flops_per_s
                                : result.bytes_per_s / ceilings.copy_bytes_per_s;
  return result;
}

/// Times forward, and forward with backward.
std::vector<KernelResult> time_case(const KernelCase& one, const Compute& compute, double budget_s,
                                    const Ceilings& ceilings) {
  const Stream& stream = compute.stream();
  const KernelWork work = one.prepare(stream);
  const Timing forward = measure(stream, budget_s, [&] {
    Tape tape(stream, StepContext{.step = kFirstFp8Step}, Tape::Mode::kInference);
    (void)work.forward(tape);
  });
  std::vector<KernelResult> results{kernel_result(one, "", one.forward, forward.seconds, ceilings)};
  if (!work.output_gradient.defined()) return results;
  const Timing both = measure(stream, budget_s, [&] {
    Tape tape(stream, StepContext{.step = kFirstFp8Step});
    tape.backward(work.forward(tape), work.output_gradient);
  });
  const double backward_s = both.seconds - forward.seconds;
  if (backward_s > 0) {
    results.push_back(kernel_result(one, ", backward", one.backward, backward_s, ceilings));
  } else {
    results.push_back({.name = one.name + ", backward",
                       .shape = one.shape,
                       .error = "shorter than the variation between measurements: increase --seconds"});
  }
  return results;
}

Json number_or_null(double value) {
  return std::isfinite(value) && value > 0 ? Json(value) : Json(nullptr);
}

}  // namespace

Ceilings measure_ceilings(const Stream& stream, DType dtype, double budget_s) {
  const bool on_cuda = stream.device().type == DeviceType::kCuda;
  Ceilings ceilings;
  {
    const int64_t bytes = on_cuda ? int64_t{2} << 30 : int64_t{128} << 20;
    const Tensor from = random_values({bytes / 4}, DType::kFloat32, 1, stream);
    const Tensor to = Tensor::empty({bytes / 4}, DType::kFloat32, stream);
    const Timing time = measure(stream, budget_s, [&] { copy(to, from, stream); });
    ceilings.copy_bytes_per_s = 2 * static_cast<double>(bytes) / time.best_s;
  }
  const int64_t n = on_cuda ? 8192 : 1024;
  const Var a(random_values({n, n}, dtype, 1, stream));
  const Var b(random_values({n, n}, dtype, 2, stream));
  const Timing time = measure(stream, budget_s, [&] {
    Tape tape(stream, StepContext{.step = kFirstFp8Step}, Tape::Mode::kInference);
    (void)matmul(tape, a, b);
  });
  const auto size = static_cast<double>(n);
  ceilings.gemm_flops_per_s = 2 * size * size * size / time.best_s;
  ceilings.gemm_shape = fmt::format("{0} x {0} x {0}", n);
  return ceilings;
}

KernelBench bench_kernels(const Compute& compute, const KernelBenchOptions& options,
                          FunctionRef<void(const KernelResult&)> progress) {
  std::vector<KernelCase> cases = kernel_cases(options.sizes, options.dtype);
  std::string names;
  for (const KernelCase& one : cases) names += (names.empty() ? "" : ", ") + one.name;
  std::erase_if(cases,
                [&](const KernelCase& one) { return one.name.find(options.only) == std::string::npos; });
  require(!cases.empty(), "bench kernels: no kernel's name contains '{}'; the names are {}", options.only,
          names);
  KernelBench bench{
      .device = device_model(compute.device()),
      .threads = compute.threads().threads,
      .dtype = options.dtype,
      .ceilings = measure_ceilings(compute.stream(), options.dtype, std::max(1.0, options.budget_s)),
      .kernels = {}};
  for (const KernelCase& one : cases) {
    std::vector<KernelResult> results;
    try {
      results = time_case(one, compute, options.budget_s, bench.ceilings);
    } catch (const Error& error) {
      const std::string_view text(error.what());
      results.push_back(
          {.name = one.name, .shape = one.shape, .error = std::string(text.substr(0, text.find('\n')))});
    }
    for (KernelResult& result : results) {
      progress(result);
      bench.kernels.push_back(std::move(result));
    }
  }
  return bench;
}

std::string to_json(const KernelBench& bench) {
  Json json;
  json["device"] = bench.device;
  json["threads"] = bench.threads;
  json["dtype"] = name(bench.dtype);
  json["ceilings"] = {{"copy_bytes_per_s", bench.ceilings.copy_bytes_per_s},
                      {"gemm_flops_per_s", bench.ceilings.gemm_flops_per_s},
                      {"gemm_shape", bench.ceilings.gemm_shape}};
  json["kernels"] = Json::array();
  for (const KernelResult& k : bench.kernels) {
    Json row{{"name", k.name},
             {"shape", k.shape},
             {"seconds", number_or_null(k.seconds)},
             {"bytes_per_s", number_or_null(k.bytes_per_s)},
             {"flops_per_s", number_or_null(k.flops_per_s)},
             {"share", number_or_null(k.share)},
             {"of", k.flops_per_s > 0 ? "gemm" : "copy"}};
    if (!k.error.empty()) row["error"] = k.error;
    json["kernels"].push_back(std::move(row));
  }
  return json.dump(2);
}

std::string table_head(const KernelBench& bench) {
  return fmt::format(
      "{}, {} thread{}, {}\n"
      "ceilings: copy {:.1f} GB/s read and written, product {} {:.1f} GFLOP/s; kernels whose data fit in "
      "caches can exceed the copy's\n\n"
      "{:<40} {:<32} {:>10} {:>9} {:>9} {:>7}\n",
      bench.device, bench.threads, bench.threads == 1 ? "" : "s", name(bench.dtype),
      bench.ceilings.copy_bytes_per_s / 1e9, bench.ceilings.gemm_shape, bench.ceilings.gemm_flops_per_s / 1e9,
      "kernel", "shape", "time/us", "GB/s", "GFLOP/s", "share");
}

std::string table_line(const KernelResult& k) {
  if (!k.error.empty()) return fmt::format("{:<40} {:<32} {}\n", k.name, k.shape, k.error);
  return fmt::format("{:<40} {:<32} {:>10.1f} {:>9.1f} {:>9} {:>5.0f} %\n", k.name, k.shape, k.seconds * 1e6,
                     k.bytes_per_s * 1e-9,
                     k.flops_per_s > 0 ? fmt::format("{:.1f}", k.flops_per_s * 1e-9) : "-", k.share * 100);
}

}  // namespace tutti
