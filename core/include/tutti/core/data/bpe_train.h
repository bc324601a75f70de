#pragma once

#include <tutti/core/data/tokenizer.h>
#include <tutti/core/thread_pool.h>

#include <functional>

namespace tutti {

/// Result of a training.
struct BpeTrainReport {
  int64_t asked = 0;    ///< requested size of the vocabulary
  int64_t learned = 0;  ///< actual size: smaller if the text has too few pairs
  int64_t min_count = 0;
  int64_t cut_words = 0;        ///< longer than 1024 bytes, counted per occurrence: split into pieces
  int64_t cut_bytes = 0;        ///< in them
  int64_t long_bytes = 0;       ///< in words or pieces longer than 32 bytes
  int64_t kept_long_bytes = 0;  ///< those of them that were used

  /// Messages for the user: differences from the request, or text that was not used.
  [[nodiscard]] std::vector<std::string> notes() const;
};

struct BpeTrainOptions {
  /// Tokens in all: 256 bytes, merges and special tokens.
  int64_t vocabulary = 4096;
  /// A pair that occurs less often is not merged, even if the vocabulary stays smaller.
  int64_t min_count = 2;
  std::vector<std::string> special_tokens = {std::string(kEndOfText)};
  /// Called at intervals with the number of tokens.
  std::function<void(int64_t done, int64_t total)> progress;
  /// Filled in unless null.
  BpeTrainReport* report = nullptr;
};

/// Learns a byte-level BPE from texts. Ids: 0-255 are the bytes, then the merges in their order, special
/// tokens last.
///
/// The most frequent pair of adjacent tokens within words merges first; of equally frequent ones that with
/// the smaller left id, then the smaller right id. The result depends only on the texts: not on their order,
/// their splits between words, or the number of threads. Words longer than 1024 bytes are split into pieces
/// of that size, between characters. If the texts have more than 16 MiB of different words and pieces longer
/// than 32 bytes, a sample of those is used, chosen by their hash: memory does not grow with the length of
/// words. Texts are split at special tokens. Throws Error if `vocabulary` is smaller than the bytes and the
/// special tokens.
Tokenizer train_bpe(std::span<const std::string_view> texts, const BpeTrainOptions& options,
                    ThreadPool& pool);

}  // namespace tutti
