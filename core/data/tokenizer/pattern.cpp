#include "core/data/tokenizer/pattern.h"
#include "core/data/unicode.h"

namespace tutti {

Pattern::Pattern(const JsonEntry& entry) {
  if (!entry.null("Regex")) {
    regex_.emplace(entry.text("Regex"), entry.place() + ".Regex");
    return;
  }
  entry.check(!entry.null("String"), "expected a pattern {{\"String\": ..}} or {{\"Regex\": ..}}");
  text_ = entry.text("String");
  entry.check(!text_.empty(), "the pattern is empty");
}

void Pattern::each(std::string_view text, FunctionRef<void(size_t, size_t)> found) const {
  if (regex_) {
    regex_->each(text, found);
    return;
  }
  for (size_t at = text.find(text_); at != std::string_view::npos; at = text.find(text_, at + text_.size())) {
    found(at, at + text_.size());
  }
}

bool Pattern::stable_before_space() const {
  if (regex_) {
    const std::string_view known = regex_->pattern();
    return known == " {2,}" || known == " +" || known == "\\s+" || known == "\\n" || known == "\n";
  }
  return decode_utf8(text_, 0).bytes == text_.size();
}

}  // namespace tutti
