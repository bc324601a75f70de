#pragma once

#include <tutti/core/data/dataset.h>
#include <tutti/core/data/token_shards.h>

namespace tutti {

/// Language modelling on token shards: the inputs of sample i are tokens [i T, i T + T), its targets
/// [i T + 1, i T + T + 1), both (B, T) int32. The last sample is padded with inputs 0 and targets -1, so that
/// every token except the first is predicted once per epoch.
class TokenDataset final : public Dataset {
 public:
  /// Throws Error unless context is positive and the corpus has at least two tokens.
  TokenDataset(TokenCorpus corpus, int64_t context);

  [[nodiscard]] int64_t size() const override;
  [[nodiscard]] Shape sample_shape() const override { return {context_}; }
  [[nodiscard]] int64_t classes() const override { return corpus_.source().vocabulary; }
  [[nodiscard]] int64_t predictions(int64_t id) const override;
  [[nodiscard]] DataContent content() const override { return corpus_.content(); }
  [[nodiscard]] std::string description() const override;
  [[nodiscard]] Batch read(std::span<const int64_t> ids, AugmentKey key, const Stream& stream) const override;
  [[nodiscard]] const TokenCorpus& corpus() const noexcept { return corpus_; }

 private:
  TokenCorpus corpus_;
  int64_t context_;
};

}  // namespace tutti
