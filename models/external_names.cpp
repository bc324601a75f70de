#include <tutti/models/external_names.h>

#include <tutti/models/gpt.h>
#include <tutti/models/hugging_face/config.h>
#include <tutti/models/resnet.h>
#include "models/hugging_face/names.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <set>

namespace tutti {
namespace {

/// Buffers in files besides weights.
bool carries_no_weights(std::string_view name) {
  for (const std::string_view buffer :
       {"attn.bias", "attn.masked_bias", "rotary_emb.inv_freq", "num_batches_tracked"}) {
    if (name == buffer || (name.ends_with(buffer) && name[name.size() - buffer.size() - 1] == '.'))
      return true;
  }
  for (const char* range : {"input_range", "weight_range", "gradient_range"}) {
    if (name.ends_with(range)) return true;
  }
  return false;
}

Shape external_shape(const ExternalTensor& row) {
  Shape shape = row.parameter->shape;
  shape[0] = row.row_end - row.row_begin;
  if (row.transposed) std::swap(shape[0], shape[1]);
  return shape;
}

/// Location of a parameter.
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
  require(group.placement().state == Sharding::kReplicated,
          "export: the masters of group '{}' are sharded over ranks; save with replicated state",
          group.name());
  const int64_t begin = group.offset(place.index);
  return group.master().slice(0, begin, begin + parameter.numel()).view(parameter.shape);
}

/// Writes a whole parameter (master's dtype) to this rank's part of the master and to the weights.
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

/// Description of a tensor without its data.
struct TensorKind {
  Shape shape;
  std::string dtype;
  bool floating = false;
};

/// Tensors from a file or a caller. Those without weights are never created.
struct Offer {
  std::vector<std::string> names;
  std::function<TensorKind(const std::string&)> kind;
  std::function<Tensor(const std::string&)> tensor;
};

Offer offer_of(const ModelFiles& files) {
  return {.names = files.names(),
          .kind =
              [&files](const std::string& name) {
                const SafetensorsEntry& entry = files.at(name);
                const auto dtype = dtype_from_safetensors(entry.dtype);
                return TensorKind{entry.shape, entry.dtype, dtype && is_floating(*dtype)};
              },
          .tensor = [&files](const std::string& name) { return files.tensor(name); }};
}

/// The tensors that a model accepts.
struct Wanted {
  std::vector<ExternalTensor> rows;
  std::string prefix;     ///< optional prefix of names: "model."
  std::string tied_head;  ///< name of a head that equals the embedding, rows[0]
  std::vector<std::pair<std::string, int64_t>> zero_biases;  ///< accepted if they are 0
};

/// Whether two matrices have the same values, in any dtypes.
bool same_values(const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape()) return false;
  ThreadPool one(1);
  const Stream host = Stream::inline_on(one);
  for (int64_t row = 0; row < a.size(0);
       ++row) {  // fp64 represents the values of every dtype; one row limits the memory
    const Tensor left = a.slice(0, row, row + 1).to(DType::kFloat64, host).to_contiguous(host);
    const Tensor right = b.slice(0, row, row + 1).to(DType::kFloat64, host).to_contiguous(host);
    if (std::memcmp(left.raw(), right.raw(), static_cast<size_t>(left.bytes())) != 0) return false;
  }
  return true;
}

bool all_zero(const Tensor& tensor) {
  ThreadPool one(1);
  const Tensor values = tensor.to(DType::kFloat64, Stream::inline_on(one));
  return std::ranges::all_of(values.view({-1}).span<double>(), [](double value) { return value == 0; });
}

/// Problems of tensors, one line each.
class Problems {
 public:
  void add(const std::string& name, const std::string& what, const std::string& hint = "") {
    text_ += fmt::format("\n  {}: {}{}{}", name, what, hint.empty() ? "" : "; ", hint);
  }
  void require_none() const { require(text_.empty(), "import: the tensors do not fit the model:{}", text_); }

 private:
  std::string text_;
};

/// Maps the model's names to the given names.
std::map<std::string, std::string> sort_names(const Wanted& wanted, const Offer& offer, Problems& problems) {
  std::set<std::string> known;
  for (const ExternalTensor& row : wanted.rows) known.insert(row.name);
  for (const auto& [name, length] : wanted.zero_biases) known.insert(name);
  if (!wanted.tied_head.empty()) known.insert(wanted.tied_head);
  std::map<std::string, std::string> offered;
  for (const std::string& given : offer.names) {
    const std::string name = known.contains(given) ? given : wanted.prefix + given;
    if (!known.contains(name)) {
      if (!carries_no_weights(given))
        problems.add(given, "not a tensor of this model", hugging_face::hint(given, false));
    } else if (!offered.emplace(name, given).second) {
      problems.add(given, fmt::format("is a duplicate of {}", offered[name]));
    }
  }
  return offered;
}

/// Finds the name of each row's tensor, or throws. Reads only the data of a tied head and of zero biases.
std::vector<std::string> match(const Wanted& wanted, const Offer& offer) {
  Problems problems;
  const std::map<std::string, std::string> offered = sort_names(wanted, offer, problems);
  std::vector<std::string> matched;
  for (const ExternalTensor& row : wanted.rows) {
    const auto found = offered.find(row.name);
    if (found == offered.end()) {
      problems.add(row.name, "missing", hugging_face::hint(row.name, true));
      continue;
    }
    const TensorKind kind = offer.kind(found->second);
    if (kind.shape != external_shape(row)) {
      problems.add(row.name, fmt::format("has shape {}, the model needs {}", to_string(kind.shape),
                                         to_string(external_shape(row))));
    } else if (!kind.floating) {
      problems.add(row.name, fmt::format("has dtype {}, expected fp64, fp32, bf16 or fp16", kind.dtype));
    }
    matched.push_back(found->second);
  }
  problems.require_none();
  if (const auto head = offered.find(wanted.tied_head); head != offered.end()) {
    if (!offer.kind(head->second).floating ||
        !same_values(offer.tensor(head->second), offer.tensor(matched.front())))
      problems.add(head->second,
                   fmt::format("differs from {}, but model.tied is true", wanted.rows.front().name),
                   "set model.tied: false");
  }
  for (const auto& [name, length] : wanted.zero_biases) {
    const auto found = offered.find(name);
    if (found == offered.end()) continue;
    const TensorKind kind = offer.kind(found->second);
    if (!kind.floating || kind.shape != Shape{length} || !all_zero(offer.tensor(found->second)))
      problems.add(found->second, "is not 0, but the model has no biases", "set model.bias: true");
  }
  problems.require_none();
  return matched;
}

std::vector<ExternalTensor> own_names(Module& model) {
  std::vector<ExternalTensor> rows;
  for (Parameter* const p : model.parameters()) {
    if (!p->keeps_latest) rows.push_back({p->name, p, 0, p->shape[0], false});
  }
  return rows;
}

hugging_face::Packing packing_of(const std::vector<std::string>& names) {
  const bool packed = std::ranges::any_of(
      names, [](const std::string& name) { return name.ends_with("self_attn.qkv_proj.weight"); });
  return packed ? hugging_face::Packing::kPacked : hugging_face::Packing::kApart;
}

/// The tensors that a model accepts with external names.
Wanted wanted_externally(Module& model, hugging_face::Packing packing) {
  auto* const gpt = dynamic_cast<Gpt*>(&model);
  if (gpt == nullptr)
    return {.rows = external_names(model), .prefix = "", .tied_head = "", .zero_biases = {}};
  Wanted wanted{.rows = hugging_face::tensor_names(*gpt, packing),
                .prefix = "",
                .tied_head = gpt->config().tied ? "lm_head.weight" : "",
                .zero_biases = hugging_face::absent_biases(*gpt)};
  const std::string& first = wanted.rows.front().name;
  wanted.prefix = first.substr(0, first.find('.') + 1);
  return wanted;
}

void import_rows(const Wanted& wanted, std::span<const std::unique_ptr<ParamGroup>> groups,
                 const Offer& offer, const Stream& stream) {
  const auto where = places(groups);
  const std::vector<ExternalTensor>& rows = wanted.rows;
  const std::vector<std::string> names = match(wanted, offer);
  for (const ExternalTensor& row : rows) (void)place_of(where, row.parameter);
  // Files are on the host: their tensors are combined there.
  ThreadPool one(1);
  const Stream host = stream.device().type == DeviceType::kCpu ? stream : Stream::inline_on(one);
  for (size_t i = 0; i < rows.size();) {
    Parameter& parameter = *rows[i].parameter;
    const Place place = place_of(where, &parameter);
    const DType dtype = place.group->precision().master;
    const Tensor whole = Tensor::empty(parameter.shape, dtype, host);
    for (; i < rows.size() && rows[i].parameter == &parameter; ++i) {
      const Tensor part = offer.tensor(names[i]);
      copy(whole.slice(0, rows[i].row_begin, rows[i].row_end),
           rows[i].transposed ? part.transpose(0, 1) : part, host);
    }
    store(place, whole.to(dtype, stream), stream);
  }
}

/// Calls `f` and adds the file names to its errors.
template <class F>
auto naming(const ModelFiles& files, F f) {
  try {
    return f();
  } catch (const Error& error) {
    fail("{}: {}", files.path().string(), error.what());
  }
}

/// The tensors that a model accepts from files with external names or Tutti's. Throws Error if the
/// config.json in their directory is of another model.
Wanted wanted_from(Module& model, const ModelFiles& files) {
  // Some of a Gpt's names are also in LlamaModel's files.
  const auto* const gpt = dynamic_cast<Gpt*>(&model);
  const std::vector<Parameter*> parameters = model.parameters();
  const bool ours = gpt != nullptr
                        ? files.contains("embedding.weight") || files.contains("blocks.0.norm1.weight")
                        : std::any_of(parameters.begin(), parameters.end(),
                                      [&](const Parameter* p) { return files.contains(p->name); });
  if (ours) return {.rows = own_names(model), .prefix = "", .tied_head = "", .zero_biases = {}};
  if (gpt != nullptr) {
    if (const auto config = hugging_face_config_of(files.path())) require_same_model(gpt->config(), *config);
  }
  return naming(files, [&] { return wanted_externally(model, packing_of(files.names())); });
}

}  // namespace

std::vector<ExternalTensor> external_names(Module& model) {
  if (auto* gpt = dynamic_cast<Gpt*>(&model))
    return hugging_face::tensor_names(*gpt, hugging_face::Packing::kApart);
  if (dynamic_cast<ResNet*>(&model) != nullptr) return own_names(model);  // equal to torchvision's
  fail("external names: only gpt and resnet models have equivalents in other libraries");
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
  if (const auto* gpt = dynamic_cast<Gpt*>(&model)) {
    for (const auto& [name, length] : hugging_face::absent_biases(*gpt))
      tensors.push_back({name, Tensor::zeros({length}, tensors.front().tensor.dtype(), stream)});
  }
  return tensors;
}

void import_tensors(Module& model, std::span<const std::unique_ptr<ParamGroup>> groups,
                    std::span<const NamedTensor> tensors, const Stream& stream) {
  std::map<std::string, Tensor> given;
  Offer offer{
      .names = {},
      .kind =
          [&](const std::string& key) {
            const Tensor& tensor = given.at(key);
            return TensorKind{tensor.shape(), std::string(name(tensor.dtype())), is_floating(tensor.dtype())};
          },
      .tensor = [&](const std::string& key) { return given.at(key); }};
  for (const NamedTensor& named : tensors) {
    offer.names.push_back(named.name);
    given[named.name] = named.tensor;
  }
  import_rows(wanted_externally(model, packing_of(offer.names)), groups, offer, stream);
}

void load_weights(Module& model, std::span<const std::unique_ptr<ParamGroup>> groups, const ModelFiles& files,
                  const Stream& stream) {
  const Wanted wanted = wanted_from(model, files);
  naming(files, [&] { import_rows(wanted, groups, offer_of(files), stream); });
}

void require_weights_fit(Module& model, const ModelFiles& files) {
  const Wanted wanted = wanted_from(model, files);
  naming(files, [&] { (void)match(wanted, offer_of(files)); });
}

}  // namespace tutti
