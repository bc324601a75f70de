#pragma once

#include <tutti/core/thread_pool.h>
#include "core/data/tokenizer/added_tokens.h"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

namespace tutti {

/// Maximum bytes of a piece: longer words are split between characters.
inline constexpr size_t kLongestPiece = 1024;
/// Pieces longer than this are sampled if the text has too many of them.
inline constexpr size_t kLongPiece = 32;
/// Limit on the bytes of distinct long pieces that are kept.
inline constexpr size_t kMostLongBytes = size_t{16} << 20;

/// The words of texts and their counts, in bounded memory: when the pieces of long words exceed
/// kMostLongBytes, half of them, chosen by hash, are dropped, repeatedly. The result depends only on the
/// texts: not on their order, on splits between words, or on threads.
class WordCounts {
 public:
  /// Counts on all threads of the pool. Texts are split at occurrences of `specials`.
  static WordCounts of(std::span<const std::string_view> texts, const AddedTokenFinder& specials,
                       ThreadPool& pool);

  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  using Map = std::unordered_map<std::string, int64_t, Hash, std::equal_to<>>;
  /// Words of at least two bytes.
  [[nodiscard]] const Map& counts() const noexcept { return counts_; }

  /// Words longer than kLongestPiece, counted per occurrence, and their bytes.
  [[nodiscard]] int64_t cut_words() const noexcept { return cut_words_; }
  [[nodiscard]] int64_t cut_bytes() const noexcept { return cut_bytes_; }
  /// Bytes in long pieces, counted per occurrence, and those of them that are kept.
  [[nodiscard]] int64_t long_bytes() const noexcept { return long_bytes_; }
  [[nodiscard]] int64_t kept_long_bytes() const noexcept;

 private:
  void add_text(std::string_view text, const AddedTokenFinder& specials);
  void add_word(std::string_view word);
  void add_piece(std::string_view piece, int64_t count);
  void merge(const WordCounts& other);
  [[nodiscard]] bool keeps(std::string_view piece) const;
  /// Drops half of the long pieces until the others fit.
  void thin_out();

  Map counts_;
  size_t distinct_long_bytes_ = 0;
  int halvings_ = 0;
  int64_t cut_words_ = 0, cut_bytes_ = 0, long_bytes_ = 0;
};

}  // namespace tutti
