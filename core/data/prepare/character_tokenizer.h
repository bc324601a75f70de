#pragma once

#include <tutti/core/data/tokenizer.h>
#include <tutti/core/thread_pool.h>

#include <span>
#include <string_view>

namespace tutti {

/// A tokenizer with one token for each character of the texts, as a byte-level BPE whose merges build the
/// characters from their UTF-8 bytes: ids 0-255 are the bytes, then the non-ASCII characters that occur and
/// the prefixes of their bytes, in the order of their code points, last <|endoftext|>. Characters that do not
/// occur in the texts are encoded as bytes. Bytes outside valid characters are ignored here.
Tokenizer character_tokenizer(std::span<const std::string_view> texts, ThreadPool& pool);

}  // namespace tutti
