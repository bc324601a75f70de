#include <tutti/core/data/token_dataset.h>
#include <tutti/core/error.h>
#include "core/counted.h"

#include <algorithm>

namespace tutti {

TokenDataset::TokenDataset(TokenCorpus corpus, int64_t context)
    : corpus_(std::move(corpus)), context_(context) {
  require(context >= 1, "token data: a context of {} tokens", context);
  require(corpus_.size() >= 2, "{}: {} tokens; at least two are needed to predict one",
          corpus_.shards().front().name(), corpus_.size());
}

int64_t TokenDataset::size() const {
  return (corpus_.size() - 2) / context_ + 1;
}

int64_t TokenDataset::predictions(int64_t id) const {
  return std::min(context_, corpus_.size() - 1 - id * context_);
}

std::string TokenDataset::description() const {
  return fmt::format("{} in {} of {}", counted(corpus_.size(), "token"), counted(size(), "sample"), context_);
}

Batch TokenDataset::read(std::span<const int64_t> ids, AugmentKey, const Stream& stream) const {
  const auto rows = static_cast<int64_t>(ids.size());
  Batch batch{Tensor::empty({rows, context_}, DType::kInt32, stream),
              Tensor::empty({rows, context_}, DType::kInt32, stream)};
  const std::span<int32_t> inputs = batch.inputs.span<int32_t>();
  const std::span<int32_t> targets = batch.targets.span<int32_t>();
  std::vector<int32_t> tokens(static_cast<size_t>(context_) + 1);
  for (size_t row = 0; row < ids.size(); ++row) {
    const int64_t id = ids[row];
    require(id >= 0 && id < size(), "token data: sample {} of {}", id, size());
    const int64_t known = predictions(id);
    corpus_.read(id * context_, std::span(tokens).first(static_cast<size_t>(known) + 1));
    const auto input = inputs.subspan(row * static_cast<size_t>(context_), static_cast<size_t>(context_));
    const auto target = targets.subspan(row * static_cast<size_t>(context_), static_cast<size_t>(context_));
    std::fill(std::copy_n(tokens.begin(), known, input.begin()), input.end(), 0);
    std::fill(std::copy_n(tokens.begin() + 1, known, target.begin()), target.end(), -1);
  }
  return batch;
}

}  // namespace tutti
