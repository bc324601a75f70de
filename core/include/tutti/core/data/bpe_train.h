#pragma once

#include <tutti/core/data/tokenizer.h>
#include <tutti/core/thread_pool.h>

#include <functional>

namespace tutti {

/// What came of a training.
struct BpeTrainReport {
  int64_t asked = 0;    ///< tokens in all
  int64_t learned = 0;  ///< tokens in all, fewer where the text does not hold more
  int64_t min_count = 0;
  int64_t cut_words = 0;        ///< longer than 1024 bytes, each time they occur: learned from in pieces
  int64_t cut_bytes = 0;        ///< in them
  int64_t long_bytes = 0;       ///< in words or pieces longer than 32 bytes
  int64_t kept_long_bytes = 0;  ///< those of them that were learned from

  /// What a user should know: where something is not as asked for, or not all of the text was learned from.
  [[nodiscard]] std::vector<std::string> notes() const;
};

struct BpeTrainOptions {
  /// Tokens in all: 256 bytes, merges and special tokens.
  int64_t vocabulary = 4096;
  /// A pair that occurs less often is not merged, even if the vocabulary stays smaller.
  int64_t min_count = 2;
  std::vector<std::string> special_tokens = {std::string(kEndOfText)};
  /// Told now and then how many tokens there are.
  std::function<void(int64_t done, int64_t total)> progress;
  /// Filled in unless null.
  BpeTrainReport* report = nullptr;
};

/// Learns a byte-level BPE from texts. Ids: 0-255 are the bytes, then the merges in their order, special
/// tokens last.
///
/// The most frequent pair of adjacent tokens within words merges first; of equally frequent ones that with
/// the smaller left id, then the smaller right id. So the result depends on the texts alone: not on their
/// order, where they are cut between words, or the number of threads. Words longer than 1024 bytes are
/// learned from in pieces of that size, cut between characters. Where the texts have more than 16 MiB of
/// different words and pieces longer than 32 bytes, a sample of those is learned from, chosen by their hash:
/// memory does not grow with the length of words. Where the texts spell a special token they are cut. Throws
/// Error if `vocabulary` does not hold the bytes and the special tokens.
Tokenizer train_bpe(std::span<const std::string_view> texts, const BpeTrainOptions& options,
                    ThreadPool& pool);

}  // namespace tutti
