#include <tutti/kernels/optimizer.h>

#include "kernels/cpu/isa.h"
#include "kernels/optimizer/device_tables.h"

#include <algorithm>
#include <cmath>

namespace tutti {
namespace {

constexpr int64_t kChunk = 16384;  // elements; 64 KiB of fp32

void check_precision(const ParamGroup& group) {
  const Precision& p = group.precision();
  const bool half = p.compute == DType::kBFloat16 || p.compute == DType::kFloat32;
  const bool half_grad = p.grad == DType::kBFloat16 || p.grad == DType::kFloat32;
  const bool single = p.master == DType::kFloat32 && half && half_grad;
  const bool wide = p.master == DType::kFloat64 && p.compute == DType::kFloat64 && p.grad == DType::kFloat64;
  require(single || wide,
          "optimizer: group '{}' has weights in {}, masters in {} and gradients in {}; expected fp32 masters "
          "with fp32 or bf16 weights and gradients, or fp64 throughout",
          group.name(), name(p.compute), name(p.master), name(p.grad));
}

UpdateTarget make_target(ParamGroup& group, size_t index, const OptimizerConfig& config) {
  Parameter& parameter = *group.parameters()[index];
  UpdateTarget target{.group = &group, .parameter = &parameter, .flat = group.offset(index), .rule = {}};
  const int64_t n = parameter.numel();
  target.begin = std::clamp<int64_t>(group.state_begin() - target.flat, 0, n);
  target.end = std::clamp<int64_t>(group.state_end() - target.flat, target.begin, n);
  if (parameter.role != Role::kStatistic) target.rule = config.rule(parameter.role);
  return target;
}

template <class G>
double sum_of_squares(const G* x, int64_t n) {
  double sum = 0;
  run_best_isa([&] {
    double s = 0;
    for (int64_t i = 0; i < n; ++i) {
      const auto value = static_cast<double>(static_cast<Accumulate<G>>(x[i]));
      s += value * value;
    }
    sum = s;
  });
  return sum;
}

/// One chunk of the gradients that the norm includes.
struct Piece {
  const ParamGroup* group;
  int64_t begin;
  int64_t end;
};

std::vector<Piece> norm_pieces(std::span<const std::unique_ptr<ParamGroup>> groups) {
  std::vector<Piece> pieces;
  for (const auto& group : groups) {
    for (size_t i = 0; i < group->parameters().size(); ++i) {
      const Parameter& parameter = *group->parameters()[i];
      if (parameter.role == Role::kStatistic) continue;
      const int64_t first = group->offset(i);
      for (int64_t at = 0; at < parameter.numel(); at += kChunk) {
        pieces.push_back({group.get(), first + at, first + std::min(at + kChunk, parameter.numel())});
      }
    }
  }
  return pieces;
}

/// One table for each dtype of gradients.
std::vector<cuda::UpdateTable> norm_tables(std::span<const Piece> pieces, const Stream& stream) {
  std::vector<cuda::UpdateTable> tables;
  if constexpr (kWithCuda) {
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat64}) {
      std::vector<cuda::UpdatePiece> found;
      Precision precision;
      for (const Piece& piece : pieces) {
        if (piece.group->precision().grad != dtype) continue;
        precision = piece.group->precision();
        const auto* grads = static_cast<const std::byte*>(piece.group->grads().raw());
        found.push_back({.grad = grads + piece.begin * size_of(dtype),
                         .master = nullptr,
                         .weight = nullptr,
                         .states = {nullptr, nullptr},
                         .n = piece.end - piece.begin,
                         .rule = 0});
      }
      if (!found.empty()) tables.push_back(cuda::make_update_table(precision, found, stream));
    }
  }
  return tables;
}

}  // namespace

struct Optimizer::DeviceNorm {
  std::vector<cuda::UpdateTable> tables;
  std::vector<const void*> gradients;  // addresses when the tables were built
};

void RoleRule::describe(Fields& f) {
  f.value("learning_rate", learning_rate, "factor on the optimizer's learning rate", not_negative());
  f.value("weight_decay", weight_decay, "factor on the optimizer's weight decay", not_negative());
}

void MuonConfig::describe(Fields& f) {
  f.value("momentum", momentum, "momentum of the average that is orthogonalised", fraction_below_one());
  f.value("nesterov", nesterov, "use Nesterov momentum");
  f.value("iterations", iterations, "Newton-Schulz steps", between(1, 20));
  f.choice("scale", scale, {"match_adamw", "spectral"},
           "scale of the update: that of AdamW's, so that its learning rates can be used, or "
           "sqrt(max(1, rows / columns))");
  f.value("split_packed", split_packed,
          "update matrices that are packed into one parameter (query, key and value; gate and up) "
          "separately, as in "
          "models that do not pack them");
}

void OptimizerConfig::describe(Fields& f) {
  f.choice("algorithm", algorithm, {"adamw", "sgd", "muon"},
           "update rule of the weights; muon updates matrices, and adamw all other weights");
  f.value("learning_rate", learning_rate, "peak; the schedule scales it", not_negative());
  f.value(
      "weight_decay", weight_decay,
      "decoupled for adamw and muon, added to the gradient for sgd; not applied to biases and norms unless "
      "their own weight_decay is 1",
      not_negative());
  f.value("clip_norm", clip_norm, "maximum norm of the gradient of all parameters; 0: no clipping",
          not_negative());
  f.value("momentum", momentum, "sgd: momentum", fraction_below_one());
  f.value("nesterov", nesterov, "sgd: use Nesterov momentum");
  f.value("betas", betas, "adamw: decay rates of the averages of the gradient and its square",
          list_of(2, 0, 0.999999));
  f.value("eps", eps, "adamw: added to the square root of the average of the squared gradient", positive());
  f.value("statistic_momentum", statistic_momentum,
          "weight of the latest batch in running statistics (batch normalisation)", between(0, 1));
  f.section("muon", muon, "matrices under algorithm muon; packed projections count as one matrix");
  f.section("weight", weight, "matrices and filters");
  f.section("head", head, "output projections");
  f.section("embedding", embedding, "embedding tables");
  f.section("bias", bias, "biases; not decayed unless weight_decay is 1");
  f.section("norm", norm, "scales and shifts of normalisations; not decayed unless weight_decay is 1");
}

const RoleRule& OptimizerConfig::rule(Role role) const {
  switch (role) {
    case Role::kWeight:
      return weight;
    case Role::kHead:
      return head;
    case Role::kEmbedding:
      return embedding;
    case Role::kBias:
      return bias;
    case Role::kNorm:
      return norm;
    case Role::kStatistic:
      break;
  }
  fail("optimizer: there is no learning rate for parameters of role '{}'", name(role));
}

StateTensor UpdateTarget::checkpoint_part(std::string_view kind, const Tensor& part) const {
  const std::string full = fmt::format("{}.{}", parameter->name, kind);
  if (group->placement().state == Sharding::kReplicated)
    return StateTensor::whole(full, part.view(parameter->shape));
  return StateTensor::part(full, parameter->shape, begin, part);
}

std::vector<Tensor> new_states(std::span<const UpdateTarget> targets, const Stream& stream) {
  std::vector<Tensor> states;
  int64_t size = 0;
  DType dtype = DType::kFloat32;
  const auto aligned = [](int64_t n) {
    return (n + ParamGroup::kAlignment - 1) / ParamGroup::kAlignment * ParamGroup::kAlignment;
  };
  for (const UpdateTarget& target : targets) {
    size += aligned(target.size());
    dtype = target.state_dtype();
  }
  const Tensor flat = Tensor::zeros({size}, dtype, stream);
  int64_t at = 0;
  for (const UpdateTarget& target : targets) {
    require(target.state_dtype() == dtype, "optimizer: groups have masters in both {} and {}",
            name(target.state_dtype()), name(dtype));
    states.push_back(flat.slice(0, at, at + target.size()));
    at += aligned(target.size());
  }
  return states;
}

std::vector<UpdateChunk> cut_into_chunks(std::span<const UpdateTarget> targets) {
  std::vector<UpdateChunk> chunks;
  for (size_t t = 0; t < targets.size(); ++t) {
    for (int64_t begin = targets[t].begin; begin < targets[t].end;) {
      const int64_t end = std::min(targets[t].end, (begin / kChunk + 1) * kChunk);
      chunks.push_back({t, begin, end});
      begin = end;
    }
  }
  return chunks;
}

std::vector<UpdateChunk> cut_into_chunks(size_t target, int64_t begin, int64_t end) {
  std::vector<UpdateChunk> chunks;
  for (; begin < end; begin += kChunk) chunks.push_back({target, begin, std::min(end, begin + kChunk)});
  return chunks;
}

Optimizer::Optimizer(OptimizerConfig config, std::span<const std::unique_ptr<ParamGroup>> groups,
                     Stream stream)
    : config_(std::move(config)), groups_(groups), stream_(std::move(stream)) {
  check_settings(config_, "optimizer");
  std::vector<UpdateTarget> matrices;
  std::vector<UpdateTarget> others;
  std::vector<UpdateTarget> averages;
  std::vector<UpdateTarget> latest;
  for (const auto& group : groups_) {
    check_precision(*group);
    for (size_t i = 0; i < group->parameters().size(); ++i) {
      UpdateTarget target = make_target(*group, i, config_);
      const Parameter& parameter = *target.parameter;
      if (parameter.role == Role::kStatistic)
        (parameter.keeps_latest ? latest : averages).push_back(target);
      else if (config_.algorithm == "muon" && parameter.role == Role::kWeight && parameter.shape.size() >= 2)
        matrices.push_back(target);
      else
        others.push_back(target);
    }
  }
  if (!matrices.empty()) rules_.push_back(make_muon_rule(config_, std::move(matrices), stream_));
  if (!others.empty()) {
    rules_.push_back(config_.algorithm == "sgd" ? make_sgd_rule(config_, std::move(others), stream_)
                                                : make_adamw_rule(config_, std::move(others), stream_));
  }
  if (!averages.empty())
    rules_.push_back(make_statistic_rule(config_.statistic_momentum, std::move(averages), stream_));
  if (!latest.empty()) rules_.push_back(make_statistic_rule(1, std::move(latest), stream_));
}

Optimizer::~Optimizer() = default;

/// The sum of squares of all gradients that the norm includes, () fp64 on the device.
Tensor Optimizer::device_squares() {
  Tensor sum = Tensor::zeros({}, DType::kFloat64, stream_);
  if constexpr (kWithCuda) {
    std::vector<const void*> gradients;
    gradients.reserve(groups_.size());
    for (const auto& group : groups_) gradients.push_back(group->grads().raw());
    if (device_norm_ == nullptr || device_norm_->gradients != gradients) {
      device_norm_ = std::make_unique<DeviceNorm>(
          DeviceNorm{norm_tables(norm_pieces(groups_), stream_), std::move(gradients)});
    }
    for (const cuda::UpdateTable& table : device_norm_->tables) {
      add_in_place(sum, cuda::sum_of_squares(table, stream_), stream_);
    }
  }
  return sum;
}

double Optimizer::grad_norm() {
  // The host waits once for the device, to read one number.
  if (on_cuda(stream_)) return std::sqrt(device_squares().item());
  const std::vector<Piece> pieces = norm_pieces(groups_);
  std::vector<double> squares(pieces.size());
  stream_.pool().parallel_for(static_cast<int64_t>(pieces.size()), [&](int64_t p) {
    const Piece& piece = pieces[static_cast<size_t>(p)];
    const Tensor& grads = piece.group->grads();
    dispatch_compute(grads.dtype(), "grad_norm", [&]<class G>(TypeTag<G>) {
      squares[static_cast<size_t>(p)] =
          sum_of_squares(grads.data<G>() + piece.begin, piece.end - piece.begin);
    });
  });
  double sum = 0;
  for (const double square : squares) sum += square;
  return std::sqrt(sum);
}

double Optimizer::clip_scale(double norm) const {
  return config_.clip_norm > 0 && norm > config_.clip_norm ? config_.clip_norm / norm : 1;
}

void Optimizer::step(double learning_rate, double grad_scale, int64_t step) {
  require(step >= 0, "optimizer: step {} is negative", step);
  for (const auto& rule : rules_) rule->step({learning_rate, grad_scale, step}, stream_);
}

bool Optimizer::can_prepare() const {
  return on_cuda(stream_) &&
         std::all_of(rules_.begin(), rules_.end(), [](const auto& rule) { return rule->can_prepare(); });
}

void Optimizer::prepare(double learning_rate, int64_t step) {
  require(step >= 0, "optimizer: step {} is negative", step);
  for (const auto& rule : rules_) rule->prepare({learning_rate, 1, step}, stream_);
}

Tensor Optimizer::step_prepared() {
  const Tensor control = Tensor::empty({3}, DType::kFloat64, stream_);
  if constexpr (kWithCuda) {
    cuda::clip_control(device_squares(), config_.clip_norm, control, stream_);
    for (const auto& rule : rules_) rule->step_prepared(control, stream_);
  }
  return control;
}

void UpdateRule::prepare(const UpdateStep&, const Stream& stream) {
  fail("optimizer: this rule has no prepared step on {}", name(stream.device()));
}

void UpdateRule::step_prepared(const Tensor&, const Stream& stream) {
  fail("optimizer: this rule has no prepared step on {}", name(stream.device()));
}

std::vector<StateTensor> Optimizer::states() const {
  std::vector<StateTensor> states;
  for (const auto& rule : rules_) rule->add_states(states);
  for (const auto& group : groups_) {
    if (group->weights().shares_storage_with(group->master()) &&
        group->placement().state == Sharding::kReplicated) {
      continue;
    }
    for (size_t i = 0; i < group->parameters().size(); ++i) {
      const UpdateTarget target = make_target(*group, i, config_);
      const int64_t at = target.flat + target.begin - group->state_begin();
      const Tensor part = target.size() > 0 ? group->master().slice(0, at, at + target.size())
                                            : group->master().slice(0, 0, 0);
      states.push_back(target.checkpoint_part("master", part));
    }
  }
  return states;
}

}  // namespace tutti
