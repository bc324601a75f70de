#include "kernels/cuda/blas.h"

#include <tutti/core/tensor.h>
#include "core/cuda/device.h"
#include "core/cuda/runtime.h"
#include "core/tuning/autotune_cache.h"
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/plan_search.h"
#include "kernels/cuda/timer.h"

#include <cctype>
#include <map>
#include <mutex>

namespace tutti::cuda {
namespace {

constexpr int kProposals = 16;
// Products with fewer operations (5 us on an H200) are too short for a meaningful measurement.
constexpr double kMeasuredFlops = 5e9;

/// Addresses of the operands of a product, in cuBLASLt's order.
struct Operands {
  const void* a;
  const void* b;
  void* c;
  const float* a_unit;
  const float* b_unit;
};

/// cuBLASLt on one device, with its plans.
class DeviceBlas {
 public:
  /// Never destroyed, like the allocators, as streams with static storage duration may be used after them.
  static DeviceBlas& of(int device) {
    static std::mutex mutex;
    static auto& all = *new std::map<int, std::unique_ptr<DeviceBlas>>;
    const std::lock_guard lock(mutex);
    auto& blas = all[device];
    if (!blas) blas = std::make_unique<DeviceBlas>(device);
    return *blas;
  }

  explicit DeviceBlas(int device)
      : autotune_(file_for(device), "gemm",
                  fmt::format("{}, cuBLASLt {}", device_info(device).name, cublasLtGetVersion())) {
    const UseDevice use(device);
    cublasLtHandle_t handle = nullptr;
    check(cublasLtCreate(&handle), "cublasLtCreate");
    handle_.reset(handle);
  }

  /// False if cuBLASLt has no algorithm for the problem.
  bool run(const GemmProblem& problem, const Operands& operands, const GemmFusion& fusion,
           const Stream& stream) {
    const std::lock_guard lock(mutex_);
    const UseDevice use(stream.device().index);
    const LtPlan& plan = plan_for(problem, operands, fusion, stream);
    if (!plan.algorithm) return false;
    set_fusion(plan, problem, fusion);
    set_units(plan, operands.a_unit, operands.b_unit);
    check(launch(plan, *plan.algorithm, plan.workspace_bytes, problem, operands, stream),
          fmt::format("cublasLtMatmul {}", problem.key()));
    return true;
  }

 private:
  static std::filesystem::path file_for(int device) {
    const std::filesystem::path folder = autotune_directory();
    if (folder.empty()) return {};
    std::string name = device_info(device).name;
    for (char& c : name) {
      if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '-';
    }
    return folder / fmt::format("gemm-{}.json", name);
  }

  const LtPlan& plan_for(const GemmProblem& problem, const Operands& operands, const GemmFusion& fusion,
                         const Stream& stream) {
    const bool measures = stream.algorithm_selection() == AlgorithmSelection::kAutotuned;
    auto& plans = measures ? measured_ : predicted_;
    const auto found = plans.find(problem);
    if (found != plans.end()) return found->second;
    LtPlan plan = describe(problem);
    set_fusion(plan, problem, fusion);
    set_units(plan, operands.a_unit, operands.b_unit);
    if (!measures || !recall(plan, problem)) {
      const auto proposals = propose(handle_.get(), plan, problem, kProposals);
      if (proposals.empty()) return plans.emplace(problem, std::move(plan)).first->second;
      plan.algorithm = proposals.front().algo;
      plan.workspace_bytes = proposals.front().workspaceSize;
      if (measures && problem.flops() >= kMeasuredFlops) {
        // No kernel runs during a graph capture. The plan is not cached, so that the first call after the
        // capture measures.
        if (capturing(stream)) return unmeasured_ = std::move(plan);
        measure(plan, proposals, problem, operands, stream);
      }
    }
    return plans.emplace(problem, std::move(plan)).first->second;
  }

  bool recall(LtPlan& plan, const GemmProblem& problem) const {
    const auto words = autotune_.find(problem.key());
    cublasLtMatmulAlgo_t algorithm{};
    if (!words || words->size() != std::size(algorithm.data)) return false;
    std::copy(words->begin(), words->end(), algorithm.data);
    const auto workspace = accept(handle_.get(), plan, algorithm);
    if (!workspace) return false;
    plan.algorithm = algorithm;
    plan.workspace_bytes = *workspace;
    return true;
  }

  void measure(LtPlan& plan, const std::vector<cublasLtMatmulHeuristicResult_t>& proposals,
               const GemmProblem& problem, const Operands& operands, const Stream& stream) {
    // Measured on the caller's operands. C is replaced by scratch memory with `accumulate`, as the result may
    // be added to it only once.
    Operands trial = operands;
    Tensor scratch;
    if (problem.accumulate) {
      const int64_t elements = (problem.batch - 1) * problem.stride_c + problem.n * problem.ldc;
      scratch = Tensor::zeros({elements}, problem.c_dtype, stream);
      trial.c = scratch.raw();
    }
    const Timer timer;
    FasterPlan faster;
    for (const auto& proposal : proposals) {
      const auto once = [&] {
        return launch(plan, proposal.algo, proposal.workspaceSize, problem, trial, stream);
      };
      // A proposed algorithm may fail; it is then skipped.
      if (once() != CUBLAS_STATUS_SUCCESS) continue;
      if (!faster(timer.milliseconds(stream, 5, [&] { check(once(), "cublasLtMatmul"); }))) continue;
      plan.algorithm = proposal.algo;
      plan.workspace_bytes = proposal.workspaceSize;
    }
    autotune_.store(problem.key(), {std::begin(plan.algorithm->data), std::end(plan.algorithm->data)});
  }

  cublasStatus_t launch(const LtPlan& plan, const cublasLtMatmulAlgo_t& algorithm, size_t workspace_bytes,
                        const GemmProblem& problem, const Operands& operands, const Stream& stream) const {
    // Returned to the stream's cache when this function returns: later work of the stream, which may reuse
    // the memory, runs after the product.
    const Tensor workspace =
        workspace_bytes == 0 ? Tensor()
                             : Tensor::empty({static_cast<int64_t>(workspace_bytes)}, DType::kUInt8, stream);
    const auto call = [&](auto alpha, auto beta) {
      return cublasLtMatmul(handle_.get(), plan.operation.get(), &alpha, operands.a, plan.a.get(), operands.b,
                            plan.b.get(), &beta, operands.c, plan.c.get(), operands.c, plan.c.get(),
                            &algorithm, workspace.raw(), workspace_bytes, native(stream));
    };
    if (problem.dtype == DType::kFloat64) return call(1.0, problem.accumulate ? 1.0 : 0.0);
    return call(1.0F, problem.accumulate ? 1.0F : 0.0F);
  }

  LtHandle handle_;
  AutotuneCache autotune_;
  std::mutex mutex_;
  std::map<GemmProblem, LtPlan> measured_, predicted_;  // by AlgorithmSelection
  LtPlan unmeasured_;
};

/// C = 0, the result for k = 0.
void clear(const Gemm& product, const GemmBatch& batch, const Stream& stream) {
  const UseDevice use(stream.device().index);
  const auto bytes = static_cast<size_t>(size_of(product.c_dtype));
  for (int64_t i = 0; i < batch.count; ++i) {
    check(
        cudaMemset2DAsync(static_cast<std::byte*>(product.c) + static_cast<size_t>(i * batch.c) * bytes,
                          static_cast<size_t>(product.ldc) * bytes, 0, static_cast<size_t>(product.n) * bytes,
                          static_cast<size_t>(product.m), native(stream)),
        "cudaMemset2DAsync");
  }
}

bool run(const Gemm& product, const GemmBatch& batch, const GemmFusion& fusion, const Stream& stream) {
  if (product.m == 0 || product.n == 0 || batch.count == 0) return true;
  if (product.k == 0) {
    if (fusion.epilogue != GemmEpilogue::kNone) return false;
    if (!product.accumulate) clear(product, batch, stream);
    return true;
  }
  return DeviceBlas::of(stream.device().index)
      .run(column_major(product, batch, fusion),
           {product.b.data, product.a.data, product.c, product.fp8.b_unit, product.fp8.a_unit}, fusion,
           stream);
}

}  // namespace

void gemm(const Gemm& product, const Stream& stream, const GemmBatch& batch) {
  require(run(product, batch, {}, stream), "gemm: cuBLASLt has no algorithm for {}",
          column_major(product, batch).key());
}

bool try_gemm(const Gemm& product, const GemmFusion& fusion, const Stream& stream) {
  return run(product, {}, fusion, stream);
}

}  // namespace tutti::cuda
