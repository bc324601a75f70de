#include "core/data/tokenizer/regex.h"
#include <tutti/core/error.h>
#include "core/data/tokenizer/json_entry.h"
#include "core/data/unicode.h"

#include <algorithm>
#include <mutex>

#if defined(TUTTI_WITH_ONIGURUMA)
#  include <oniguruma.h>
#endif

namespace tutti {

#if defined(TUTTI_WITH_ONIGURUMA)
namespace {

constexpr size_t kLongestPattern = size_t{1} << 14;

std::string onig_message(int code, OnigErrorInfo* info) {
  UChar text[ONIG_MAX_ERROR_MESSAGE_LEN] = {};
  const int length = onig_error_code_to_str(text, code, info);
  return {reinterpret_cast<const char*>(text), static_cast<size_t>(std::max(length, 0))};
}

const UChar* bytes_of(std::string_view text) {
  return reinterpret_cast<const UChar*>(text.data());
}

}  // namespace

Regex::Regex(const std::string& pattern, std::string place) : pattern_(pattern), place_(std::move(place)) {
  static std::once_flag ready;
  std::call_once(ready, [] {
    OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
    onig_initialize(encodings, 1);
  });
  require(pattern.size() <= kLongestPattern, "{}: an expression of {} bytes; the maximum is {}", place_,
          pattern.size(), kLongestPattern);
  OnigRegex regex = nullptr;
  OnigErrorInfo info{};
  const int code = onig_new(&regex, bytes_of(pattern_), bytes_of(pattern_) + pattern_.size(),
                            ONIG_OPTION_NONE, ONIG_ENCODING_UTF8, ONIG_SYNTAX_DEFAULT, &info);
  require(code == ONIG_NORMAL, "{}: '{}' is not a regular expression: {}", place_, shown(pattern_),
          code == ONIG_NORMAL ? "" : onig_message(code, &info));
  compiled_ = std::shared_ptr<void>(regex, [](void* r) { onig_free(static_cast<OnigRegex>(r)); });
}

void Regex::each(std::string_view text, FunctionRef<void(size_t, size_t)> found) const {
  const std::unique_ptr<OnigRegion, void (*)(OnigRegion*)> region(
      onig_region_new(), [](OnigRegion* r) { onig_region_free(r, 1); });
  const std::unique_ptr<OnigMatchParam, void (*)(OnigMatchParam*)> limits(onig_new_match_param(),
                                                                          onig_free_match_param);
  require(region != nullptr && limits != nullptr, "{}: out of memory", place_);
  onig_initialize_match_param(limits.get());
  // Enough for any expression that visits each character a few times; ends unlimited backtracking.
  const auto steps = static_cast<unsigned long>(std::min<size_t>(10'000'000, 100'000 + 64 * text.size()));
  onig_set_retry_limit_in_match_of_match_param(limits.get(), steps);
  onig_set_retry_limit_in_search_of_match_param(limits.get(), steps);
  const UChar* const begin = bytes_of(text);
  const UChar* const end = begin + text.size();
  constexpr size_t kNoMatch = ~size_t{0};
  size_t last_match_end = kNoMatch;
  for (size_t from = 0; from <= text.size();) {
    onig_region_clear(region.get());
    const int at = onig_search_with_param(static_cast<OnigRegex>(compiled_.get()), begin, end, begin + from,
                                          end, region.get(), ONIG_OPTION_NONE, limits.get());
    if (at == ONIG_MISMATCH) return;
    require(at >= 0, "{}: '{}' on a text of {} bytes: {}", place_, shown(pattern_), text.size(),
            at >= 0 ? "" : onig_message(at, nullptr));
    const auto match_begin = static_cast<size_t>(region->beg[0]);
    const auto match_end = static_cast<size_t>(region->end[0]);
    if (match_begin == match_end && match_end == last_match_end) {
      from += from < text.size() ? decode_utf8(text, from).bytes : 1;
      continue;
    }
    from = last_match_end = match_end;
    found(match_begin, match_end);
  }
}

#else

Regex::Regex(const std::string& pattern, std::string place) {
  fail("{}: '{}' needs Oniguruma (libonig-dev), which this build does not have", place, shown(pattern));
}
void Regex::each(std::string_view, FunctionRef<void(size_t, size_t)>) const {}

#endif

}  // namespace tutti
