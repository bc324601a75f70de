#include "kernels/cuda/cudnn.h"

#include "core/cuda/device.h"
#include "core/cuda/runtime.h"
#include "core/tuning/autotune_cache.h"
#include "kernels/cuda/timer.h"

#include <cudnn_frontend.h>

#include <cctype>
#include <limits>
#include <map>
#include <mutex>

namespace tutti::cuda {
namespace {

namespace fe = cudnn_frontend;
using Graph = std::shared_ptr<fe::graph::Graph>;
using Attributes = std::shared_ptr<fe::graph::Tensor_attributes>;

// Of a convolution; a deterministic backward pass of attention needs more.
constexpr int64_t kMostConvWorkspace = int64_t{1} << 30;
constexpr int64_t kMostAttentionWorkspace = int64_t{4} << 30;
constexpr int kMeasuredPlans = 4;

void check(cudnnStatus_t status, std::string_view call,
           std::source_location where = std::source_location::current()) {
  if (status == CUDNN_STATUS_SUCCESS) [[likely]]
    return;
  throw Error(fmt::format("{} failed: {}", call, cudnnGetErrorString(status)), where);
}

fe::DataType_t cudnn_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return fe::DataType_t::FLOAT;
    case DType::kBFloat16:
      return fe::DataType_t::BFLOAT16;
    default:
      fail("cuDNN: no graph in {}", name(dtype));
  }
}

/// A device that is described instead of there.
struct ToldDevice {
  std::shared_ptr<fe::DeviceProperties> properties;
  int capability = 0;
};

/// `told` is null for the device that is there. Operations take it over from the graph when they are added.
Graph new_graph(DType dtype, const ToldDevice* told) {
  auto graph = std::make_shared<fe::graph::Graph>();
  if (told != nullptr) graph->set_device_properties(told->properties).set_sm_version(told->capability);
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

/// Makes what an operation of a graph returns a tensor in memory.
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

Graph describe(const ConvProblem& p, const ToldDevice* told) {
  const ConvShape& s = p.shape;
  const Operand x{kImages, s.dtype, image_layout(s.n, s.h, s.w, s.c)};
  const Operand w{kFilters, p.weights, image_layout(s.o, s.kh, s.kw, s.c / s.groups)};
  const Operand y{kResults, s.dtype, image_layout(s.n, s.oh, s.ow, s.o)};
  Graph graph = new_graph(s.dtype, told);
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

/// Position t sees positions 0..t: the band of visible scores ends at the diagonal.
template <class Options>
void mask(Options& options, const AttentionProblem& p) {
  options.set_attn_scale(static_cast<float>(p.scale));
  if (!p.causal) return;
  options.set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT).set_diagonal_band_right_bound(0);
}

Graph describe(const AttentionProblem& p, const ToldDevice* told) {
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
  Graph graph = new_graph(kType, told);
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

std::string reason(fe::error_t error) {  // whose functions are not const
  const std::string message = error.get_message();
  return message.empty() ? "no reason given" : message;
}

/// Lists the plans for a described graph; says why if there are none. fp32 means fp32: no plan that rounds
/// inputs to TF32 or transforms them (Winograd, Fourier) is left. Nor is a convolution's whose bits depend on
/// timing; attention is asked for its own way in the graph.
/// `handle` is null for a graph that was told of its device.
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
  /// Never destroyed, as the allocators.
  static Cudnn& of(int device);
  explicit Cudnn(int device);

  bool has_plan(const CudnnProblem& problem, AlgorithmSelection selection);
  bool run(const CudnnProblem& problem, CudnnMemory& memory, const Stream& stream);

 private:
  struct Plan {
    Graph graph;  // null: cuDNN has none
    int64_t index = 0;
    int64_t workspace_bytes = 0;
    int64_t most_workspace = 0;
    bool measured = false;
  };
  struct Destroy {
    void operator()(cudnnHandle_t handle) const noexcept { (void)cudnnDestroy(handle); }
  };

  using Plans = std::unordered_map<std::string, Plan>;
  Plan& plan_for(const CudnnProblem& problem, const std::string& name, AlgorithmSelection selection);
  void measure(Plan& plan, const std::string& name, CudnnMemory& memory, const Stream& stream);
  [[nodiscard]] static bool build(Plan& plan, int64_t index);
  /// The problem, or nothing.
  [[nodiscard]] std::string launch(const Plan& plan, CudnnMemory& memory, const Stream& stream) const;

  int device_;
  std::unique_ptr<std::remove_pointer_t<cudnnHandle_t>, Destroy> handle_;
  AutotuneCache autotune_;  // which plan of cuDNN's list
  std::mutex mutex_;
  Plans measured_, predicted_;  // by how they were chosen
};

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
    if (words && words->size() == 1 && words->front() < static_cast<uint64_t>(count)) {
      plan.measured = built = build(plan, static_cast<int64_t>(words->front()));
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
  check(cudnnSetStream(handle_.get(), native(stream)), "cudnnSetStream");
  // Nothing runs while a graph is captured: the choice is made after it.
  if (std::holds_alternative<ConvProblem>(problem) &&
      stream.algorithm_selection() == AlgorithmSelection::kAutotuned && !plan.measured &&
      !capturing(stream)) {
    measure(plan, name, memory, stream);
  }
  const std::string failure = launch(plan, memory, stream);
  require(failure.empty(), "cuDNN: plan {} for {} failed: {}", plan.index, name, failure);
  return true;
}

void Cudnn::measure(Plan& plan, const std::string& name, CudnnMemory& memory, const Stream& stream) {
  const Timer timer;
  Plan best = plan;
  float least = std::numeric_limits<float>::infinity();
  int tried = 0;
  for (int64_t i = plan.index; i < plan.graph->get_execution_plan_count() && tried < kMeasuredPlans; ++i) {
    Plan candidate = plan;
    if (!build(candidate, i)) continue;
    ++tried;
    // Plans are not promises: one that fails is passed over.
    if (!launch(candidate, memory, stream).empty()) continue;
    const float ms = timer.milliseconds(stream, 3, [&] { (void)launch(candidate, memory, stream); });
    if (ms >= least) continue;
    least = ms;
    best = candidate;
  }
  plan = best;
  plan.measured = true;
  autotune_.store(name, {static_cast<uint64_t>(plan.index)});
}

std::string Cudnn::launch(const Plan& plan, CudnnMemory& memory, const Stream& stream) const {
  // From the stream's cache and back to it at once: the stream's order keeps later users away.
  const Tensor workspace = Tensor::empty({std::max<int64_t>(plan.workspace_bytes, 1)}, DType::kUInt8, stream);
  auto status = plan.graph->execute_plan_at_index(handle_.get(), memory, workspace.raw(), plan.index);
  return status.is_good() ? std::string() : reason(status);
}

}  // namespace

bool cudnn_has_plan(const CudnnProblem& problem, const Stream& stream) {
  return Cudnn::of(stream.device().index).has_plan(problem, stream.algorithm_selection());
}

std::string cudnn_why_no_plan(const CudnnProblem& problem, const std::string& device, int capability) {
  const ToldDevice told{std::make_shared<fe::DeviceProperties>(), capability};
  const auto read = told.properties->deserialize(std::vector<uint8_t>(device.begin(), device.end()));
  require(read.is_good(), "cuDNN {} takes no such description of a device: {}", cudnnGetVersion(),
          reason(read));
  const Graph graph = std::visit([&](const auto& p) { return describe(p, &told); }, problem);
  std::string why = list_plans(graph, nullptr, problem);
  if (!why.empty()) return why;
  const auto supported = graph->check_support();
  return supported.is_good() ? std::string() : reason(supported);
}

bool cudnn_run(const CudnnProblem& problem, CudnnMemory memory, const Stream& stream) {
  return Cudnn::of(stream.device().index).run(problem, memory, stream);
}

Tensor aligned(const Tensor& x, const Stream& stream) {
  return reinterpret_cast<uintptr_t>(x.raw()) % 16 == 0 ? x : x.clone(stream);
}

}  // namespace tutti::cuda
