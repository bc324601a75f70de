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

/// A tensor under the name that a file gives it.
struct NamedTensor {
  std::string name;
  Tensor tensor;
};

/// How one tensor of a Hugging Face or torchvision checkpoint lies in ours: as rows of a parameter, maybe
/// transposed.
struct ExternalTensor {
  std::string name;
  Parameter* parameter = nullptr;
  int64_t row_begin = 0;  ///< rows [row_begin, row_end) of the parameter
  int64_t row_end = 0;
  bool transposed = false;  ///< the file has (inputs, outputs), as GPT-2's Conv1D
};

/// The names of a model's tensors in the checkpoints that others write: for a Gpt with GPT-2's shape those of
/// transformers' GPT2LMHeadModel, for one that follows Llama those of LlamaForCausalLM and its relatives
/// (Mistral, Qwen, Gemma, ...), for a ResNet torchvision's. Throws Error for models that have no such
/// relative (an Mlp, a Gpt that mixes the recipes), naming the keys of the run file.
std::vector<ExternalTensor> external_names(Module& model);

/// Copies of all tensors in the masters' dtype, for write_safetensors; for a GPT-2 without biases also those,
/// 0, as transformers has no such model. Throws Error if a group's state is sharded and its weights are not
/// the masters.
std::vector<NamedTensor> export_tensors(Module& model, std::span<const std::unique_ptr<ParamGroup>> groups,
                                        const Stream& stream);

/// Fills masters and weights from `tensors` of any floating dtype and order. Buffers that hold no weights
/// (attention masks, rotary frequencies, counts of batches), the copy of a tied head and zeros for biases
/// that the model has not are passed over; names may lack their "transformer." or "model."; projections may
/// be packed as Phi-3's. Throws Error naming all tensors that are missing, not expected, of another shape, or
/// a head that is not the embedding where the model's is, and the keys to set; nothing is written then.
void import_tensors(Module& model, std::span<const std::unique_ptr<ParamGroup>> groups,
                    std::span<const NamedTensor> tensors, const Stream& stream);

/// import_tensors from files, which may also have our own names instead, as checkpoints do. Where they do
/// not, a config.json beside them must say the same as the model's settings (require_same_model). Throws
/// Error naming the files, and what import_tensors and external_names throw.
void load_weights(Module& model, std::span<const std::unique_ptr<ParamGroup>> groups, const ModelFiles& files,
                  const Stream& stream);

/// Throws what load_weights would, after the headers of the files alone (and the data of a tied head and of
/// biases that must be 0). The model needs no storage.
void require_weights_fit(Module& model, const ModelFiles& files);

}  // namespace tutti
