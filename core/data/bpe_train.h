#pragma once

#include <tutti/core/data/tokenizer.h>
#include <tutti/core/thread_pool.h>

#include <functional>

namespace tutti {

struct BpeTrainOptions {
  /// Tokens in all: 256 bytes, merges and special tokens.
  int64_t vocabulary = 4096;
  /// A pair that occurs less often is not merged, even if the vocabulary stays smaller.
  int64_t min_count = 2;
  std::vector<std::string> special_tokens = {std::string(kEndOfText)};
  /// Told now and then how many tokens there are.
  std::function<void(int64_t done, int64_t total)> progress;
};

/// Learns a byte-level BPE from texts. Ids: 0-255 are the bytes, then the merges in their order, special
/// tokens last.
///
/// The most frequent pair of adjacent tokens within words merges first; of equally frequent ones that with
/// the smaller left id, then the smaller right id. So the result depends on the texts alone: not on their
/// order, where they are cut between words, or the number of threads. Words longer than 1024 bytes are left
/// out: they are no words, and would cost time without end. Where the texts spell a special token they are
/// cut. Throws Error if `vocabulary` does not hold the bytes and the special tokens.
Tokenizer train_bpe(std::span<const std::string_view> texts, const BpeTrainOptions& options,
                    ThreadPool& pool);

}  // namespace tutti
