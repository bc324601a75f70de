#pragma once

#include <tutti/core/checkpoint/model_files.h>
#include <tutti/core/module.h>
#include <tutti/core/param_group.h>

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// A tensor with its name in a file.
struct NamedTensor {
  std::string name;
  Tensor tensor;
};

/// A tensor of a Hugging Face or torchvision checkpoint as rows of a parameter, possibly transposed.
struct ExternalTensor {
  std::string name;
  Parameter* parameter = nullptr;
  int64_t row_begin = 0;  ///< rows [row_begin, row_end) of the parameter
  int64_t row_end = 0;
  bool transposed = false;  ///< the file has (inputs, outputs), as GPT-2's Conv1D
};

/// The names of a model's tensors in checkpoints of other libraries: for a Gpt with GPT-2's architecture
/// those of transformers' GPT2LMHeadModel, for one with Llama's those of LlamaForCausalLM and related classes
/// (Mistral, Qwen, Gemma, ...), for a ResNet those of torchvision. Throws Error for models without an
/// equivalent (an Mlp, a Gpt that mixes the recipes), naming the keys of the run file.
std::vector<ExternalTensor> external_names(Module& model);

/// Copies of all tensors in the masters' dtype, for write_safetensors; for a GPT-2 without biases also zero
/// biases, as transformers has no such model. Throws Error if a group's state is sharded and its weights are
/// not the masters.
std::vector<NamedTensor> export_tensors(Module& model, std::span<const std::unique_ptr<ParamGroup>> groups,
                                        const Stream& stream);

/// Fills masters and weights from `tensors` of any floating dtype and order. Ignores buffers without weights
/// (attention masks, rotary frequencies, counts of batches), the copy of a tied head and zero biases that the
/// model does not have; the prefix "transformer." or "model." of names is optional; projections may be packed
/// as in Phi-3. Throws Error, before anything is written, naming all tensors that are missing, unexpected or
/// of another shape, or a head that differs from the embedding of a tied model, and the keys to set.
void import_tensors(Module& model, std::span<const std::unique_ptr<ParamGroup>> groups,
                    std::span<const NamedTensor> tensors, const Stream& stream);

/// import_tensors from files, which may also have Tutti's names, as in checkpoints. If they do not, a
/// config.json in their directory must match the model's settings (require_same_model). Throws Error naming
/// the files, also for the errors of import_tensors and external_names.
void load_weights(Module& model, std::span<const std::unique_ptr<ParamGroup>> groups, const ModelFiles& files,
                  const Stream& stream);

/// Throws the errors of load_weights after reading only the headers of the files (and the data of a tied head
/// and of biases that must be 0). The model needs no storage.
void require_weights_fit(Module& model, const ModelFiles& files);

}  // namespace tutti
