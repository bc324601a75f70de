#include "core/data/tokenizer/known_rules.h"
#include "core/data/split.h"

#include <algorithm>

namespace tutti {
namespace {

constexpr KnownRule kRules[] = {
    {R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", &word_end},
    // GPT-4 (cl100k) and Llama-3
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     nullptr},
    // Qwen2
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     nullptr},
};

}  // namespace

const KnownRule* known_rule(std::string_view regex) {
  const auto* const found = std::find_if(std::begin(kRules), std::end(kRules),
                                         [&](const KnownRule& r) { return r.regex == regex; });
  return found == std::end(kRules) ? nullptr : found;
}

}  // namespace tutti
