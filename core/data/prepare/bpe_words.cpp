#include "core/data/prepare/bpe_words.h"
#include <tutti/core/random.h>
#include "core/data/split.h"

#include <algorithm>
#include <mutex>
#include <vector>

namespace tutti {
namespace {

constexpr size_t kSectionBytes = size_t{1} << 20;

/// Where the first piece of a word ends: at most kLongestPiece bytes, on a character boundary.
size_t piece_end(std::string_view word) {
  if (word.size() <= kLongestPiece) return word.size();
  const auto continues = [&](size_t i) { return (static_cast<unsigned char>(word[i]) & 0xc0U) == 0x80U; };
  size_t end = kLongestPiece;
  while (end > kLongestPiece - 4 && continues(end)) --end;
  return continues(end) ? kLongestPiece : end;
}

}  // namespace

WordCounts WordCounts::of(std::span<const std::string_view> texts, const AddedTokenFinder& specials,
                          ThreadPool& pool) {
  std::vector<std::string_view> sections;
  for (const std::string_view text : texts) {
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = cut_point(text, std::min(begin + kSectionBytes, text.size()));
      sections.push_back(text.substr(begin, end - begin));
      begin = end;
    }
  }
  WordCounts all;
  std::mutex mutex;
  pool.parallel_for(static_cast<int64_t>(sections.size()), [&](int64_t i) {
    WordCounts counts;
    counts.add_text(sections[static_cast<size_t>(i)], specials);
    const std::scoped_lock lock(mutex);
    all.merge(counts);
  });
  return all;
}

void WordCounts::add_text(std::string_view text, const AddedTokenFinder& specials) {
  const auto plain = [&](std::string_view section) {
    for (size_t begin = 0; begin < section.size();) {
      const size_t end = word_end(section, begin);
      add_word(section.substr(begin, end - begin));
      begin = end;
    }
  };
  specials.split(text, plain, [](int32_t) {});
}

void WordCounts::add_word(std::string_view word) {
  if (word.size() > kLongestPiece) {
    ++cut_words_;
    cut_bytes_ += static_cast<int64_t>(word.size());
  }
  while (word.size() >= 2) {
    const size_t end = piece_end(word);
    if (end > kLongPiece) long_bytes_ += static_cast<int64_t>(end);
    add_piece(word.substr(0, end), 1);
    word.remove_prefix(end);
  }
}

void WordCounts::add_piece(std::string_view piece, int64_t count) {
  if (const auto found = counts_.find(piece); found != counts_.end()) {
    found->second += count;
    return;
  }
  if (!keeps(piece)) return;
  counts_.emplace(piece, count);
  if (piece.size() <= kLongPiece) return;
  distinct_long_bytes_ += piece.size();
  if (distinct_long_bytes_ > kMostLongBytes) thin_out();
}

void WordCounts::merge(const WordCounts& other) {
  cut_words_ += other.cut_words_;
  cut_bytes_ += other.cut_bytes_;
  long_bytes_ += other.long_bytes_;
  if (other.halvings_ > halvings_) {
    halvings_ = other.halvings_ - 1;
    thin_out();
  }
  for (const auto& [piece, count] : other.counts_) add_piece(piece, count);
}

bool WordCounts::keeps(std::string_view piece) const {
  if (halvings_ == 0 || piece.size() <= kLongPiece) return true;
  uint64_t hash = stable_hash(piece);
  hash = (hash ^ (hash >> 32)) * 0x9E3779B97F4A7C15ULL;
  return halvings_ < 64 && hash >> (64 - halvings_) == 0;
}

// A piece kept after some halvings was kept after fewer, so its count is complete; and the number of halvings
// is the least sufficient one for all texts together, in any order.
void WordCounts::thin_out() {
  do {
    ++halvings_;
    std::erase_if(counts_, [&](const auto& entry) {
      if (keeps(entry.first)) return false;
      distinct_long_bytes_ -= entry.first.size();
      return true;
    });
  } while (distinct_long_bytes_ > kMostLongBytes);
}

int64_t WordCounts::kept_long_bytes() const noexcept {
  int64_t bytes = 0;
  for (const auto& [piece, count] : counts_) {
    if (piece.size() > kLongPiece) bytes += count * static_cast<int64_t>(piece.size());
  }
  return bytes;
}

}  // namespace tutti
