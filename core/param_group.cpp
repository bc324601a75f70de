#include <tutti/core/memory/owner.h>
#include <tutti/core/param_group.h>

namespace tutti {
namespace {

int64_t round_up(int64_t n, int64_t unit) {
  return (n + unit - 1) / unit * unit;
}

}  // namespace

void Precision::describe(Fields& f) {
  f.value("compute", compute, "dtype of weights and activations in forward and backward: fp32 or bf16");
  f.value("grad", grad, "dtype in which gradients are summed and reduced: fp32 or bf16");
  const auto allowed = [](DType dtype) { return dtype == DType::kFloat32 || dtype == DType::kBFloat16; };
  f.check(allowed(compute), "compute", "must be fp32 or bf16");
  f.check(allowed(grad), "grad", "must be fp32 or bf16");
}

ParamGroup::ParamGroup(std::string name, std::vector<Parameter*> parameters, Precision precision,
                       Placement placement, ShardOf shard, uint64_t seed, const Stream& stream)
    : name_(std::move(name)),
      parameters_(std::move(parameters)),
      precision_(precision),
      placement_(placement) {
  require(is_floating(precision.compute) && is_floating(precision.master) && is_floating(precision.grad),
          "parameter group '{}': dtypes must be floating", name_);
  require(placement.weight == Sharding::kReplicated && placement.grad == Sharding::kReplicated,
          "parameter group '{}': only the state can be sharded (ZeRO-0 and ZeRO-1)", name_);
  require(shard.ranks >= 1 && shard.rank >= 0 && shard.rank < shard.ranks,
          "parameter group '{}': part {} of {}", name_, shard.rank, shard.ranks);
  for (const Parameter* parameter : parameters_) {
    offsets_.push_back(size_);
    require(parameter->padding == 0 || (parameter->padding > 0 && parameter->shape.size() > 0),
            "parameter '{}': {} rows of padding", parameter->name, parameter->padding);
    size_ += round_up(numel(parameter->padded_shape()), kAlignment);
  }
  const bool sharded = placement.state == Sharding::kSharded && shard.ranks > 1;
  if (sharded) size_ = round_up(size_, kAlignment * shard.ranks);
  const int64_t part = sharded ? size_ / shard.ranks : size_;
  state_begin_ = sharded ? part * shard.rank : 0;
  state_end_ = state_begin_ + part;

  const MemoryOwner owner("parameters");
  // Drawn in full and in the master dtype, then sliced: the values do not depend on the layout.
  Tensor full_master = Tensor::zeros({size_}, precision.master, stream);
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const Parameter& p = *parameters_[i];
    initialise(p, full_master.slice(0, offsets_[i], offsets_[i] + p.numel()).view(p.shape), seed, stream);
  }
  weights_ = full_master.to(precision.compute, stream);
  master_ = full_master.slice(0, state_begin_, state_end_);
  if (sharded && precision.compute != precision.master) master_ = master_.clone(stream);
  grads_ = Tensor::zeros({size_}, precision.grad, stream);
  bind_values();
  bind_grads(grads_);
}

ParamGroup::Views ParamGroup::views(const Tensor& flat, size_t i) const {
  const Parameter& p = *parameters_[i];
  Views views{.whole = flat.slice(0, offsets_[i], offsets_[i] + p.numel()).view(p.shape), .padded = {}};
  const Shape padded = p.padded_shape();
  if (p.padding > 0) views.padded = flat.slice(0, offsets_[i], offsets_[i] + numel(padded)).view(padded);
  return views;
}

void ParamGroup::bind_values() {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    auto [whole, padded] = views(weights_, i);
    parameters_[i]->value = std::move(whole);
    parameters_[i]->padded_value = std::move(padded);
  }
}

void ParamGroup::bind_grads(const Tensor& flat) {
  require(flat.shape() == Shape{size_} && flat.dtype() == precision_.grad && flat.contiguous(),
          "parameter group '{}': gradients of shape {} and dtype {} do not fit", name_,
          to_string(flat.shape()), tutti::name(flat.dtype()));
  grads_ = flat;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    auto [whole, padded] = views(flat, i);
    parameters_[i]->grad = std::move(whole);
    parameters_[i]->padded_grad = std::move(padded);
    parameters_[i]->grad_defined = false;
  }
}

void ParamGroup::clear_grads() {
  for (Parameter* p : parameters_) p->grad_defined = false;
}

void ParamGroup::zero_missing_grads(const Stream& stream) {
  for (Parameter* p : parameters_) {
    if (!std::exchange(p->grad_defined, true)) fill(p->stored_grad(), 0, stream);
  }
}

Tensor ParamGroup::new_grads(const Stream& stream) const {
  return Tensor::zeros({size_}, precision_.grad, stream);
}

void ParamGroup::round_weights(const Stream& stream) {
  if (weights_.shares_storage_with(master_)) return;
  copy(weights_.slice(0, state_begin_, state_end_), master_, stream);
}

std::vector<std::unique_ptr<ParamGroup>> make_param_groups(Module& root, const GroupOptions& options,
                                                           const Stream& stream) {
  std::vector<std::unique_ptr<ParamGroup>> groups;
  std::vector<Parameter*> open;
  int64_t bytes = 0;
  const auto close = [&] {
    if (open.empty()) return;
    groups.push_back(std::make_unique<ParamGroup>(fmt::format("group{}", groups.size()),
                                                  std::exchange(open, {}), options.precision,
                                                  options.placement, options.shard, options.seed, stream));
    bytes = 0;
  };
  for (Parameter* parameter : root.parameters()) {
    require(!parameter->name.empty(), "make_param_groups: name_parameters has not been called on the model");
    open.push_back(parameter);
    bytes += parameter->numel() * size_of(options.precision.grad);
    if (bytes >= options.bucket_bytes) close();
  }
  close();
  return groups;
}

}  // namespace tutti
