#pragma once

#include <tutti/core/data/tokenizer.h>
#include <tutti/core/thread_pool.h>

#include <span>
#include <string_view>

namespace tutti {

/// A tokenizer with one token for each character of the texts, as a byte-level BPE whose merges build the
/// characters from their UTF-8 bytes: ids 0-255 are the bytes, then come the characters beyond ASCII that
/// occur and the beginnings of their bytes, in the order of their code points, last <|endoftext|>. Characters
/// that the texts do not have become bytes. Bytes that belong to no character count for nothing here.
Tokenizer character_tokenizer(std::span<const std::string_view> texts, ThreadPool& pool);

}  // namespace tutti
