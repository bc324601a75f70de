#pragma once

#include <tutti/models/external_names.h>
#include <tutti/models/gpt.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

// Private to models: maps a Gpt's parameters to tensors in files of transformers.
namespace tutti::hugging_face {

/// Phi-3 packs queries, keys and values, and gate and up, as Tutti does.
enum class Packing : uint8_t { kApart, kPacked };

/// Throws Error naming the keys of the run file in which the model differs from GPT-2 and from the Llama
/// family.
std::vector<ExternalTensor> tensor_names(Gpt& model, Packing packing);

/// Biases that GPT-2's files need and a model without biases does not have, with their lengths. They are 0.
std::vector<std::pair<std::string, int64_t>> absent_biases(const Gpt& model);

/// The key of the run file that makes a tensor expected (`missing` false) or not; "" if unknown.
std::string hint(std::string_view name, bool missing);

}  // namespace tutti::hugging_face
