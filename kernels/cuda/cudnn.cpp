#include "kernels/cuda/cudnn.h"

#include "core/cuda/device.h"
#include "core/cuda/runtime.h"
#include "core/tuning/autotune_cache.h"
#include "kernels/cuda/plan_search.h"
#include "kernels/cuda/timer.h"

#include <cudnn_frontend.h>

#include <bit>
#include <cctype>
#include <limits>
#include <map>
#include <mutex>

namespace tutti::cuda {
namespace {

namespace fe = cudnn_frontend;
using Graph = std::shared_ptr<fe::graph::Graph>;
using Attributes = std::shared_ptr<fe::graph::Tensor_attributes>;

// A deterministic backward pass of attention needs more workspace than a convolution may use.
constexpr int64_t kMostConvWorkspace = int64_t{1} << 30;
constexpr int64_t kMostAttentionWorkspace = int64_t{4} << 30;
constexpr int kMeasuredPlans = 4;
/// A plan takes a tenth of a second to build. In smaller convolutions, of few microseconds, measured
/// differences would be noise.
constexpr double kMeasuredFlops = 5e9;

void check(cudnnStatus_t status, std::string_view call,
           std::source_location where = std::source_location::current()) {
  if (status == CUDNN_STATUS_SUCCESS) [[likely]]
    return;
  check_device(call, where);
  throw Error(fmt::format("{} failed: {}", call, cudnnGetErrorString(status)), where);
}

fe::DataType_t cudnn_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return fe::DataType_t::FLOAT;
    case DType::kBFloat16:
      return fe::DataType_t::BFLOAT16;
    default:
      fail("cuDNN: unsupported dtype {}", name(dtype));
  }
}

/// A device that is given by its properties and need not be present.
struct DescribedDevice {
  std::shared_ptr<fe::DeviceProperties> properties;
  int capability = 0;
};

/// `described` is null for the current device. Operations copy these settings from the graph when they are
/// added.
Graph new_graph(DType dtype, const DescribedDevice* described) {
  auto graph = std::make_shared<fe::graph::Graph>();
  if (described != nullptr)
    graph->set_device_properties(described->properties).set_sm_version(described->capability);
  graph->set_io_data_type(cudnn_type(dtype))
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  return graph;
}

struct Operand {
  CudnnTensor id;
  DType dtype;
  CudnnLayout layout;
};

Attributes input(const Graph& graph, const Operand& operand) {
  return graph->tensor(fe::graph::Tensor_attributes()
                           .set_uid(operand.id)
                           .set_dim(operand.layout.sizes)
                           .set_stride(operand.layout.strides)
                           .set_data_type(cudnn_type(operand.dtype)));
}

/// Makes the result of a graph's operation an output in memory.
void output(const Attributes& attributes, const Operand& operand) {
  attributes->set_output(true)
      .set_uid(operand.id)
      .set_dim(operand.layout.sizes)
      .set_stride(operand.layout.strides)
      .set_data_type(cudnn_type(operand.dtype));
}

template <class Attributes>
Attributes geometry(const ConvShape& s) {
  return Attributes()
      .set_padding({s.padding[0], s.padding[1]})
      .set_stride({s.stride[0], s.stride[1]})
      .set_dilation({s.dilation[0], s.dilation[1]});
}

Graph describe(const ConvProblem& p, const DescribedDevice* described) {
  const ConvShape& s = p.shape;
  const Operand x{kImages, s.dtype, image_layout(s.n, s.h, s.w, s.c)};
  const Operand w{kFilters, p.weights, image_layout(s.o, s.kh, s.kw, s.c / s.groups)};
  const Operand y{kResults, s.dtype, image_layout(s.n, s.oh, s.ow, s.o)};
  Graph graph = new_graph(s.dtype, described);
  switch (p.pass) {
    case ConvPass::kForward:
      output(
          graph->conv_fprop(input(graph, x), input(graph, w), geometry<fe::graph::Conv_fprop_attributes>(s)),
          y);
      break;
    case ConvPass::kData:
      output(
          graph->conv_dgrad(input(graph, y), input(graph, w), geometry<fe::graph::Conv_dgrad_attributes>(s)),
          x);
      break;
    case ConvPass::kWeights:
      output(
          graph->conv_wgrad(input(graph, y), input(graph, x), geometry<fe::graph::Conv_wgrad_attributes>(s)),
          w);
      break;
  }
  return graph;
}

/// Position t attends to positions 0..t: the band of unmasked scores ends at the diagonal.
template <class Options>
void mask(Options& options, const AttentionProblem& p) {
  options.set_attn_scale(static_cast<float>(p.scale));
  if (!p.causal) return;
  options.set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT).set_diagonal_band_right_bound(0);
}

Graph describe(const AttentionProblem& p, const DescribedDevice* described) {
  constexpr DType kType = DType::kBFloat16;
  const int64_t width = p.width();
  const int64_t out_width = p.heads * p.head_dim;
  const auto queries = [&](CudnnTensor id) { return Operand{id, kType, head_layout(p, p.heads, width)}; };
  const auto keys = [&](CudnnTensor id) { return Operand{id, kType, head_layout(p, p.kv_heads, width)}; };
  const auto attended = [&](CudnnTensor id) {
    return Operand{id, kType, head_layout(p, p.heads, out_width)};
  };
  const Operand statistics{kStatistics,
                           DType::kFloat32,
                           {{p.batch, p.heads, p.positions, 1}, {p.heads * p.positions, p.positions, 1, 1}}};
  Graph graph = new_graph(kType, described);
  const Attributes q = input(graph, queries(kQuery));
  const Attributes k = input(graph, keys(kKey));
  const Attributes v = input(graph, keys(kValue));
  if (p.backward) {
    fe::graph::SDPA_backward_attributes options;
    mask(options, p);
    options.set_deterministic_algorithm(p.deterministic);
    const auto [dq, dk, dv] =
        graph->sdpa_backward(q, k, v, input(graph, attended(kAttended)),
                             input(graph, attended(kAttendedGradient)), input(graph, statistics), options);
    output(dq, queries(kQueryGradient));
    output(dk, keys(kKeyGradient));
    output(dv, keys(kValueGradient));
    return graph;
  }
  fe::graph::SDPA_attributes options;
  mask(options, p);
  options.set_generate_stats(p.saves);
  const auto [o, stats] = graph->sdpa(q, k, v, options);
  output(o, attended(kAttended));
  if (p.saves) output(stats, statistics);
  return graph;
}

std::filesystem::path file_for(int device) {
  const std::filesystem::path folder = autotune_directory();
  if (folder.empty()) return {};
  std::string name = device_info(device).name;
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '-';
  }
  return folder / fmt::format("cudnn-{}.json", name);
}

int64_t most_workspace(const CudnnProblem& problem) {
  return std::holds_alternative<ConvProblem>(problem) ? kMostConvWorkspace : kMostAttentionWorkspace;
}

std::string reason(fe::error_t error) {  // by value, as its functions are not const
  const std::string message = error.get_message();
  return message.empty() ? "no reason given" : message;
}

/// Creates the list of plans of a graph. Returns "", or the reason if there are none. Removes plans of
/// convolutions whose results depend on timing, and for fp32 those that round inputs to TF32 or transform
/// them (Winograd, Fourier). For attention, the graph itself says whether plans must be deterministic.
/// `handle` is null for a graph with a described device.
std::string list_plans(const Graph& graph, cudnnHandle_t handle, const CudnnProblem& problem) {
  using Note = fe::NumericalNote_t;
  auto status = graph->validate();
  if (status.is_good())
    status = handle == nullptr ? graph->build_operation_graph() : graph->build_operation_graph(handle);
  if (status.is_good()) status = graph->create_execution_plans({fe::HeurMode_t::A, fe::HeurMode_t::FALLBACK});
  if (status.is_bad()) return reason(status);
  graph->deselect_workspace_greater_than(most_workspace(problem));
  const auto* const conv = std::get_if<ConvProblem>(&problem);
  if (conv == nullptr) return {};
  graph->deselect_numeric_notes({Note::NONDETERMINISTIC});
  if (conv->shape.dtype != DType::kBFloat16) {
    graph->deselect_numeric_notes({Note::TENSOR_CORE, Note::DOWN_CONVERT_INPUTS, Note::FFT, Note::WINOGRAD,
                                   Note::WINOGRAD_TILE_4x4, Note::WINOGRAD_TILE_6x6,
                                   Note::WINOGRAD_TILE_13x13});
  }
  return {};
}

/// cuDNN on one device.
class Cudnn {
 public:
  /// Never destroyed, like the allocators.
  static Cudnn& of(int device);
  explicit Cudnn(int device);

  bool has_plan(const CudnnProblem& problem, AlgorithmSelection selection);
  bool run(const CudnnProblem& problem, CudnnMemory& memory, const Stream& stream);
  float measured(const CudnnProblem& problem, CudnnMemory& memory, const Stream& stream);

 private:
  struct Plan {
    Graph graph;  // null: cuDNN has none
    int64_t index = 0;
    int64_t workspace_bytes = 0;
    int64_t most_workspace = 0;
    bool measured = false;
    float milliseconds = std::numeric_limits<float>::infinity();
  };
  struct Destroy {
    void operator()(cudnnHandle_t handle) const noexcept { (void)cudnnDestroy(handle); }
  };

  using Plans = std::unordered_map<std::string, Plan>;
  Plan& plan_for(const CudnnProblem& problem, const std::string& name, AlgorithmSelection selection);
  void measure_once(Plan& plan, const CudnnProblem& problem, CudnnMemory& memory, const Stream& stream);
  void measure(Plan& plan, const std::string& name, CudnnMemory& memory, const Stream& stream);
  [[nodiscard]] static bool build(Plan& plan, int64_t index);
  /// The message of an error, or "".
  [[nodiscard]] std::string launch(const Plan& plan, CudnnMemory& memory, const Stream& stream) const;

  int device_;
  std::unique_ptr<std::remove_pointer_t<cudnnHandle_t>, Destroy> handle_;
  AutotuneCache autotune_;  // of indices in cuDNN's lists of plans
  std::mutex mutex_;
  Plans measured_, predicted_;  // by AlgorithmSelection
};

bool is_measured(const CudnnProblem& problem) {
  const auto* conv = std::get_if<ConvProblem>(&problem);
  if (conv == nullptr) return false;
  const ConvShape& s = conv->shape;
  return 2.0 * static_cast<double>(s.n * s.oh * s.ow * s.o) *
             static_cast<double>(s.c / s.groups * s.kh * s.kw) >=
         kMeasuredFlops;
}

Cudnn& Cudnn::of(int device) {
  static std::mutex mutex;
  static auto& all = *new std::map<int, std::unique_ptr<Cudnn>>;
  const std::lock_guard lock(mutex);
  auto& cudnn = all[device];
  if (!cudnn) cudnn = std::make_unique<Cudnn>(device);
  return *cudnn;
}

Cudnn::Cudnn(int device)
    : device_(device),
      autotune_(file_for(device), "cudnn",
                fmt::format("{}, cuDNN {}", device_info(device).name, cudnnGetVersion())) {
  const UseDevice use(device);
  cudnnHandle_t handle = nullptr;
  check(cudnnCreate(&handle), "cudnnCreate");
  handle_.reset(handle);
}

bool Cudnn::build(Plan& plan, int64_t index) {
  if (plan.graph->build_plan_at_index(index).is_bad()) return false;
  int64_t bytes = 0;
  if (plan.graph->get_workspace_size_plan_at_index(index, bytes).is_bad() || bytes > plan.most_workspace)
    return false;
  plan.index = index;
  plan.workspace_bytes = bytes;
  return true;
}

Cudnn::Plan& Cudnn::plan_for(const CudnnProblem& problem, const std::string& name,
                             AlgorithmSelection selection) {
  const bool measures = selection == AlgorithmSelection::kAutotuned;
  Plans& plans = measures ? measured_ : predicted_;
  const auto found = plans.find(name);
  if (found != plans.end()) return found->second;
  Plan plan;
  plan.most_workspace = most_workspace(problem);
  plan.graph = std::visit([](const auto& p) { return describe(p, nullptr); }, problem);
  bool built = false;
  if (list_plans(plan.graph, handle_.get(), problem).empty()) {
    const auto words = measures ? autotune_.find(name) : std::nullopt;
    const int64_t count = plan.graph->get_execution_plan_count();
    if (words && words->size() == 2 && words->front() < static_cast<uint64_t>(count)) {
      plan.measured = built = build(plan, static_cast<int64_t>(words->front()));
      plan.milliseconds = std::bit_cast<float>(static_cast<uint32_t>(words->back()));
    }
    for (int64_t i = 0; !built && i < count; ++i) built = build(plan, i);
  }
  if (!built) plan.graph = nullptr;
  return plans.emplace(name, std::move(plan)).first->second;
}

bool Cudnn::has_plan(const CudnnProblem& problem, AlgorithmSelection selection) {
  const std::lock_guard lock(mutex_);
  const UseDevice use(device_);
  return plan_for(problem, key(problem), selection).graph != nullptr;
}

bool Cudnn::run(const CudnnProblem& problem, CudnnMemory& memory, const Stream& stream) {
  const std::lock_guard lock(mutex_);
  const UseDevice use(device_);
  const std::string name = key(problem);
  Plan& plan = plan_for(problem, name, stream.algorithm_selection());
  if (plan.graph == nullptr) return false;
  measure_once(plan, problem, memory, stream);
  const std::string failure = launch(plan, memory, stream);
  if (failure.empty()) return true;
  // A failure may have ended the capture, and an error of the device itself would fail all plans.
  require(!capturing(stream), "cuDNN: plan {} for {} failed while a graph was captured: {}", plan.index, name,
          failure);
  check_device(fmt::format("cuDNN: plan {} for {}: {}", plan.index, name, failure));
  const int64_t next = run_first(
      plan.index + 1, plan.graph->get_execution_plan_count(), [&](int64_t i) { return build(plan, i); },
      [&](int64_t) { return launch(plan, memory, stream).empty(); });
  if (next < 0) plan.graph = nullptr;
  plan.measured = false;  // the next call measures it and those after it
  plan.milliseconds = std::numeric_limits<float>::infinity();
  return next >= 0;
}

float Cudnn::measured(const CudnnProblem& problem, CudnnMemory& memory, const Stream& stream) {
  if (!is_measured(problem)) return std::numeric_limits<float>::infinity();
  const std::lock_guard lock(mutex_);
  const UseDevice use(device_);
  Plan& plan = plan_for(problem, key(problem), stream.algorithm_selection());
  if (plan.graph != nullptr) measure_once(plan, problem, memory, stream);
  return plan.milliseconds;
}

void Cudnn::measure_once(Plan& plan, const CudnnProblem& problem, CudnnMemory& memory, const Stream& stream) {
  check(cudnnSetStream(handle_.get(), native(stream)), "cudnnSetStream");
  // No kernel runs during a graph capture: the plan is measured at the first call after it.
  if (is_measured(problem) && stream.algorithm_selection() == AlgorithmSelection::kAutotuned &&
      !plan.measured && !capturing(stream)) {
    measure(plan, key(problem), memory, stream);
  }
}

void Cudnn::measure(Plan& plan, const std::string& name, CudnnMemory& memory, const Stream& stream) {
  const Timer timer;
  Plan best = plan;
  FasterPlan faster;
  int tried = 0;
  for (int64_t i = plan.index; i < plan.graph->get_execution_plan_count() && tried < kMeasuredPlans; ++i) {
    Plan candidate = plan;
    if (i != plan.index && !build(candidate, i)) continue;
    ++tried;
    // A plan may fail; it is then skipped.
    if (!launch(candidate, memory, stream).empty()) continue;
    if (faster(timer.milliseconds(stream, 3, [&] { (void)launch(candidate, memory, stream); })))
      best = candidate;
  }
  plan = best;
  plan.measured = true;
  plan.milliseconds = faster.milliseconds();
  autotune_.store(name, {static_cast<uint64_t>(plan.index), std::bit_cast<uint32_t>(plan.milliseconds)});
}

std::string Cudnn::launch(const Plan& plan, CudnnMemory& memory, const Stream& stream) const {
  // Returned to the stream's cache when this function returns: later work of the stream, which may reuse the
  // memory, runs after this.
  const Tensor workspace = Tensor::empty({std::max<int64_t>(plan.workspace_bytes, 1)}, DType::kUInt8, stream);
  auto status = plan.graph->execute_plan_at_index(handle_.get(), memory, workspace.raw(), plan.index);
  return status.is_good() ? std::string() : reason(status);
}

}  // namespace

bool cudnn_has_plan(const CudnnProblem& problem, const Stream& stream) {
  return Cudnn::of(stream.device().index).has_plan(problem, stream.algorithm_selection());
}

std::string cudnn_why_no_plan(const CudnnProblem& problem, const std::string& device, int capability) {
  const DescribedDevice described{std::make_shared<fe::DeviceProperties>(), capability};
  const auto read = described.properties->deserialize(std::vector<uint8_t>(device.begin(), device.end()));
  require(read.is_good(), "cuDNN {} cannot parse the description of the device: {}", cudnnGetVersion(),
          reason(read));
  const Graph graph = std::visit([&](const auto& p) { return describe(p, &described); }, problem);
  std::string why = list_plans(graph, nullptr, problem);
  if (!why.empty()) return why;
  const auto supported = graph->check_support();
  return supported.is_good() ? std::string() : reason(supported);
}

float cudnn_measured(const CudnnProblem& problem, CudnnMemory memory, const Stream& stream) {
  return Cudnn::of(stream.device().index).measured(problem, memory, stream);
}

bool cudnn_run(const CudnnProblem& problem, CudnnMemory memory, const Stream& stream) {
  return Cudnn::of(stream.device().index).run(problem, memory, stream);
}

}  // namespace tutti::cuda
