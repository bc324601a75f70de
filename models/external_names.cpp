#include <tutti/models/external_names.h>

#include <tutti/models/gpt.h>
#include <tutti/models/resnet.h>

#include <algorithm>
#include <map>
#include <set>

namespace tutti {
namespace {

/// Finds parameters by their own names and collects rows of the table.
class Table {
 public:
  explicit Table(Module& model) {
    for (Parameter* parameter : model.parameters()) own_[parameter->name] = parameter;
  }

  void add(const std::string& name, const std::string& own, bool transposed = false) {
    Parameter* parameter = own_.at(own);
    rows_.push_back({name, parameter, 0, parameter->shape[0], transposed});
  }
  /// Cuts a parameter into parts of these numbers of rows.
  void add_parts(const std::vector<std::pair<std::string, int64_t>>& parts, const std::string& own) {
    int64_t at = 0;
    for (const auto& [name, rows] : parts) {
      rows_.push_back({name, own_.at(own), at, at + rows, false});
      at += rows;
    }
  }
  std::vector<ExternalTensor> take() { return std::move(rows_); }

 private:
  std::map<std::string, Parameter*> own_;
  std::vector<ExternalTensor> rows_;
};

void add_with_bias(Table& table, const std::string& name, const std::string& own, bool transposed) {
  table.add(name + ".weight", own + ".weight", transposed);
  table.add(name + ".bias", own + ".bias");
}

std::vector<ExternalTensor> gpt2_names(Gpt& model) {
  Table table(model);
  table.add("transformer.wte.weight", "embedding.weight");
  table.add("transformer.wpe.weight", "position.weight");
  for (int64_t i = 0; i < model.config().layers; ++i) {
    const std::string theirs = fmt::format("transformer.h.{}.", i);
    const std::string ours = fmt::format("blocks.{}.", i);
    add_with_bias(table, theirs + "ln_1", ours + "norm1", false);
    add_with_bias(table, theirs + "attn.c_attn", ours + "attention.qkv", true);
    add_with_bias(table, theirs + "attn.c_proj", ours + "attention.output", true);
    add_with_bias(table, theirs + "ln_2", ours + "norm2", false);
    add_with_bias(table, theirs + "mlp.c_fc", ours + "mlp.up", true);
    add_with_bias(table, theirs + "mlp.c_proj", ours + "mlp.down", true);
  }
  add_with_bias(table, "transformer.ln_f", "norm", false);
  if (!model.config().tied) table.add("lm_head.weight", "head.weight");
  return table.take();
}

std::vector<ExternalTensor> llama_names(Gpt& model) {
  const GptConfig& c = model.config();
  const int64_t head_width = c.width / c.heads;
  Table table(model);
  table.add("model.embed_tokens.weight", "embedding.weight");
  for (int64_t i = 0; i < c.layers; ++i) {
    const std::string theirs = fmt::format("model.layers.{}.", i);
    const std::string ours = fmt::format("blocks.{}.", i);
    table.add(theirs + "input_layernorm.weight", ours + "norm1.weight");
    table.add_parts({{theirs + "self_attn.q_proj.weight", c.width},
                     {theirs + "self_attn.k_proj.weight", c.kv_heads * head_width},
                     {theirs + "self_attn.v_proj.weight", c.kv_heads * head_width}},
                    ours + "attention.qkv.weight");
    table.add(theirs + "self_attn.o_proj.weight", ours + "attention.output.weight");
    table.add(theirs + "post_attention_layernorm.weight", ours + "norm2.weight");
    table.add_parts({{theirs + "mlp.gate_proj.weight", c.hidden}, {theirs + "mlp.up_proj.weight", c.hidden}},
                    ours + "mlp.up.weight");
    table.add(theirs + "mlp.down_proj.weight", ours + "mlp.down.weight");
  }
  table.add("model.norm.weight", "norm.weight");
  if (!c.tied) table.add("lm_head.weight", "head.weight");
  return table.take();
}

std::vector<ExternalTensor> gpt_names(Gpt& model) {
  const GptConfig& c = model.config();
  const bool is_gpt2 = c.norm == "layer" && c.positions == "learned" && c.bias &&
                       c.activation == "gelu_tanh" && c.kv_heads == c.heads;
  const bool is_llama = c.norm == "rms" && c.positions == "rotary" && !c.bias && c.activation == "swiglu";
  require(is_gpt2 || is_llama,
          "external names: a gpt with norm {}, positions {}, activation {} and bias {} is neither GPT-2 nor "
          "Llama",
          c.norm, c.positions, c.activation, c.bias);
  return is_gpt2 ? gpt2_names(model) : llama_names(model);
}

/// What files hold besides weights.
bool carries_no_weights(std::string_view name, bool tied) {
  for (const char* ending :
       {".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq", ".num_batches_tracked"}) {
    if (name.ends_with(ending)) return true;
  }
  for (const char* range : {"input_range", "weight_range", "gradient_range"}) {
    if (name.ends_with(range)) return true;
  }
  return tied && name == "lm_head.weight";
}

Shape external_shape(const ExternalTensor& row) {
  Shape shape = row.parameter->shape;
  shape[0] = row.row_end - row.row_begin;
  if (row.transposed) std::swap(shape[0], shape[1]);
  return shape;
}

/// Where a parameter lives.
struct Place {
  ParamGroup* group = nullptr;
  size_t index = 0;
};

std::map<const Parameter*, Place> places(std::span<const std::unique_ptr<ParamGroup>> groups) {
  std::map<const Parameter*, Place> all;
  for (const auto& group : groups) {
    for (size_t i = 0; i < group->parameters().size(); ++i) all[group->parameters()[i]] = {group.get(), i};
  }
  return all;
}

Place place_of(const std::map<const Parameter*, Place>& all, const Parameter* parameter) {
  const auto found = all.find(parameter);
  require(found != all.end(), "external names: parameter '{}' is in none of the groups", parameter->name);
  return found->second;
}

/// The parameter in the master's dtype.
Tensor master_of(const Place& place) {
  const ParamGroup& group = *place.group;
  const Parameter& parameter = *group.parameters()[place.index];
  if (group.precision().compute == group.precision().master) return parameter.value;
  require(group.placement().state == Spread::kReplicated,
          "export: the masters of group '{}' are spread over ranks; save with replicated state",
          group.name());
  const int64_t begin = group.offset(place.index);
  return group.master().slice(0, begin, begin + parameter.numel()).view(parameter.shape);
}

/// Writes a whole parameter (master's dtype) to the part of the master that this rank keeps, and to the
/// weights.
void store(const Place& place, const Tensor& values, const Stream& stream) {
  ParamGroup& group = *place.group;
  Parameter& parameter = *group.parameters()[place.index];
  const int64_t flat = group.offset(place.index);
  const int64_t begin = std::max(group.state_begin() - flat, int64_t{0});
  const int64_t end = std::min(group.state_end() - flat, parameter.numel());
  if (begin < end) {
    const int64_t at = flat + begin - group.state_begin();
    copy(group.master().slice(0, at, at + end - begin), values.view({-1}).slice(0, begin, end), stream);
  }
  copy(parameter.value, values, stream);
}

/// Finds each row's tensor, or throws.
std::vector<Tensor> match(const std::vector<ExternalTensor>& rows, std::span<const NamedTensor> tensors) {
  const bool tied = std::none_of(rows.begin(), rows.end(),
                                 [](const ExternalTensor& row) { return row.name == "lm_head.weight"; });
  const bool is_gpt2 = rows.front().name.starts_with("transformer.");
  std::set<std::string> expected;
  for (const ExternalTensor& row : rows) expected.insert(row.name);
  std::map<std::string, Tensor> given;
  std::string problems;
  for (const NamedTensor& named : tensors) {
    std::string name = named.name;
    if (is_gpt2 && !expected.contains(name) && expected.contains("transformer." + name))
      name.insert(0, "transformer.");
    if (expected.contains(name))
      given[name] = named.tensor;
    else if (!carries_no_weights(name, tied))
      problems += fmt::format("\n  {}: not a tensor of this model", named.name);
  }
  std::vector<Tensor> matched;
  for (const ExternalTensor& row : rows) {
    const auto found = given.find(row.name);
    if (found == given.end()) {
      problems += fmt::format("\n  {}: missing", row.name);
      continue;
    }
    if (found->second.shape() != external_shape(row)) {
      problems += fmt::format("\n  {}: has shape {}, the model needs {}", row.name,
                              to_string(found->second.shape()), to_string(external_shape(row)));
    } else if (!is_floating(found->second.dtype())) {
      problems +=
          fmt::format("\n  {}: has dtype {}, expected a floating one", row.name, name(found->second.dtype()));
    }
    matched.push_back(found->second);
  }
  require(problems.empty(), "import: the tensors do not fit the model:{}", problems);
  return matched;
}

std::vector<ExternalTensor> own_names(Module& model) {
  Table table(model);
  for (const Parameter* parameter : model.parameters()) {
    if (!parameter->keeps_latest) table.add(parameter->name, parameter->name);
  }
  return table.take();
}

void import_rows(const std::vector<ExternalTensor>& rows, std::span<const std::unique_ptr<ParamGroup>> groups,
                 std::span<const NamedTensor> tensors, const Stream& stream) {
  const auto where = places(groups);
  const std::vector<Tensor> sources = match(rows, tensors);
  for (const ExternalTensor& row : rows) (void)place_of(where, row.parameter);
  // Files are on the host: what they hold is put together there.
  ThreadPool one(1);
  const Stream host = stream.device().type == DeviceType::kCpu ? stream : Stream::inline_on(one);
  for (size_t i = 0; i < rows.size();) {
    Parameter& parameter = *rows[i].parameter;
    const Place place = place_of(where, &parameter);
    const DType dtype = place.group->precision().master;
    const Tensor whole = Tensor::empty(parameter.shape, dtype, host);
    for (; i < rows.size() && rows[i].parameter == &parameter; ++i) {
      const Tensor part = rows[i].transposed ? sources[i].transpose(0, 1) : sources[i];
      copy(whole.slice(0, rows[i].row_begin, rows[i].row_end), part, host);
    }
    store(place, whole.to(dtype, stream), stream);
  }
}

}  // namespace

std::vector<ExternalTensor> external_names(Module& model) {
  if (auto* gpt = dynamic_cast<Gpt*>(&model)) return gpt_names(*gpt);
  if (dynamic_cast<ResNet*>(&model) != nullptr) return own_names(model);  // torchvision's already
  fail("external names: only gpt and resnet models have relatives in other libraries");
}

std::vector<NamedTensor> export_tensors(Module& model, std::span<const std::unique_ptr<ParamGroup>> groups,
                                        const Stream& stream) {
  const auto where = places(groups);
  std::vector<NamedTensor> tensors;
  for (const ExternalTensor& row : external_names(model)) {
    Tensor part = master_of(place_of(where, row.parameter)).slice(0, row.row_begin, row.row_end);
    if (row.transposed) part = part.transpose(0, 1);
    tensors.push_back({row.name, part.clone(stream)});
  }
  return tensors;
}

void import_tensors(Module& model, std::span<const std::unique_ptr<ParamGroup>> groups,
                    std::span<const NamedTensor> tensors, const Stream& stream) {
  import_rows(external_names(model), groups, tensors, stream);
}

void load_weights(Module& model, std::span<const std::unique_ptr<ParamGroup>> groups, const ModelFiles& files,
                  const Stream& stream) {
  const std::vector<std::string> names = files.names();
  std::vector<NamedTensor> tensors;
  tensors.reserve(names.size());
  for (const std::string& name : names) tensors.push_back({name, files.tensor(name)});
  const std::vector<Parameter*> parameters = model.parameters();
  const bool ours = std::any_of(parameters.begin(), parameters.end(),
                                [&](const Parameter* p) { return files.contains(p->name); });
  try {
    import_rows(ours ? own_names(model) : external_names(model), groups, tensors, stream);
  } catch (const Error& error) {
    fail("{}: {}", files.path().string(), error.what());
  }
}

}  // namespace tutti
