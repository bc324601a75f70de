#pragma once

#include <cstddef>
#include <string_view>

namespace tutti {

/// Where the word that begins at `begin` < text.size() ends, by GPT-2's split rule, the leftmost match of
///     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
/// Every byte belongs to one word; invalid UTF-8 bytes count as neither letter, number nor space. Source:
/// Radford et al. 2019, "Language models are unsupervised multitask learners", and its published encoder.
size_t word_end(std::string_view text, size_t begin);

/// The first position at or after `begin` where the text can be cut so that both parts split into the same
/// words as the whole: between a character that is not white space and an ASCII white space character.
/// text.size() if there is none.
size_t cut_point(std::string_view text, size_t begin);

/// The first position at or after `begin` between a letter or number and a space; text.size() if there is
/// none.
size_t cut_before_space(std::string_view text, size_t begin);

}  // namespace tutti
