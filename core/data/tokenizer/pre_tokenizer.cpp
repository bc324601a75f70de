#include "core/data/tokenizer/pre_tokenizer.h"
#include <tutti/core/data/tokenizer.h>
#include "core/data/split.h"
#include "core/data/tokenizer/known_rules.h"
#include "core/data/tokenizer/pattern.h"
#include "core/data/unicode.h"

#include <algorithm>

namespace tutti {
namespace {

/// Treatment of a delimiter, with the names of `tokenizers`.
enum class Delimiter : uint8_t { kRemoved, kIsolated, kWithPrevious, kWithNext, kContiguous };

Delimiter read_delimiter(const JsonEntry& entry, const std::string& name) {
  if (name == "Removed") return Delimiter::kRemoved;
  if (name == "Isolated") return Delimiter::kIsolated;
  if (name == "MergedWithPrevious") return Delimiter::kWithPrevious;
  if (name == "MergedWithNext") return Delimiter::kWithNext;
  entry.check(name == "Contiguous", "behavior '{}' is not supported", shown(name));
  return Delimiter::kContiguous;
}

struct Range {
  size_t begin, end;
  bool is_match;
};

/// Emits ranges that cover the piece. Source: tokenizers, NormalizedString::split.
void emit_ranges(const Piece& piece, std::vector<Range>& ranges, Delimiter delimiter, Emit emit) {
  std::vector<Range> merged;
  const auto out = [&](const Range& r) { emit(piece.part(r.begin, r.end)); };
  if (delimiter == Delimiter::kWithNext) std::reverse(ranges.begin(), ranges.end());
  bool previous = false;
  for (const Range& r : ranges) {
    const bool first = merged.empty();
    bool merge = false;
    if (delimiter == Delimiter::kContiguous) {
      merge = !first && r.is_match == previous;
    } else if (delimiter == Delimiter::kWithPrevious || delimiter == Delimiter::kWithNext) {
      merge = !first && r.is_match && !previous;
    }
    previous = r.is_match;
    if (!merge) {
      merged.push_back(r);
    } else if (delimiter == Delimiter::kWithNext) {
      merged.back().begin = r.begin;
    } else {
      merged.back().end = r.end;
    }
  }
  if (delimiter == Delimiter::kWithNext) std::reverse(merged.begin(), merged.end());
  for (const Range& r : merged) out(r);
}

/// Splits at the matches of `find(text, found)`; without allocation if delimiters are removed or isolated.
template <class Find>
void split_at(const Piece& piece, Delimiter delimiter, bool invert, Emit emit, Find&& find) {
  std::vector<Range> ranges;
  const bool at_once = delimiter == Delimiter::kRemoved || delimiter == Delimiter::kIsolated;
  const auto range = [&](size_t begin, size_t end, bool is_match) {
    if (!at_once) {
      ranges.push_back({begin, end, is_match});
    } else if (delimiter == Delimiter::kIsolated || !is_match) {
      emit(piece.part(begin, end));
    }
  };
  size_t done = 0;
  find(piece.text, [&](size_t begin, size_t end) {
    if (done != begin) range(done, begin, invert);
    range(begin, end, !invert);
    done = end;
  });
  if (done != piece.text.size()) range(done, piece.text.size(), invert);
  if (!at_once) emit_ranges(piece, ranges, delimiter, emit);
}

class Split : public PreTokenizer {
 public:
  explicit Split(const JsonEntry& entry)
      : pattern_(entry.at("pattern")),
        delimiter_(read_delimiter(entry, entry.text("behavior"))),
        invert_(entry.flag("invert")) {
    // The known rules match every character.
    if (delimiter_ == Delimiter::kIsolated || (delimiter_ == Delimiter::kRemoved && invert_)) {
      known_ = known_rule(pattern_.regex());
    }
  }
  void split(const Piece& piece, Emit emit) const override {
    split_at(piece, delimiter_, invert_, emit,
             [&](std::string_view text, auto&& found) { pattern_.each(text, found); });
  }
  [[nodiscard]] BeforeSpace before_space() const override {
    if (known_) return BeforeSpace::kBoundary;
    return pattern_.stable_before_space() ? BeforeSpace::kStable : BeforeSpace::kUnknown;
  }
  [[nodiscard]] bool keeps_text() const override { return delimiter_ != Delimiter::kRemoved || known_; }
  [[nodiscard]] WordEnd word_end() const override { return known_ ? known_->word_end : nullptr; }

 private:
  Pattern pattern_;
  Delimiter delimiter_;
  bool invert_;
  const KnownRule* known_ = nullptr;
};

/// Splits at single characters of a kind.
class SplitAtCharacters : public PreTokenizer {
 public:
  using Is = bool (*)(char32_t);
  SplitAtCharacters(Is is, Delimiter delimiter) : is_(is), delimiter_(delimiter) {}
  void split(const Piece& piece, Emit emit) const override {
    split_at(piece, delimiter_, false, emit, [&](std::string_view text, auto&& found) {
      for (size_t i = 0; i < text.size();) {
        const Utf8Char c = decode_utf8(text, i);
        if (is_(c.code)) found(i, i + c.bytes);
        i += c.bytes;
      }
    });
  }
  [[nodiscard]] BeforeSpace before_space() const override {
    return is_(U' ') && delimiter_ == Delimiter::kRemoved ? BeforeSpace::kBoundary : BeforeSpace::kStable;
  }
  [[nodiscard]] bool keeps_text() const override { return delimiter_ != Delimiter::kRemoved; }

 private:
  Is is_;
  Delimiter delimiter_;
};

class SplitAtDelimiter : public PreTokenizer {
 public:
  explicit SplitAtDelimiter(char32_t delimiter) { append_utf8(delimiter_, delimiter); }
  void split(const Piece& piece, Emit emit) const override {
    split_at(piece, Delimiter::kRemoved, false, emit, [&](std::string_view text, auto&& found) {
      for (size_t at = text.find(delimiter_); at != std::string_view::npos;
           at = text.find(delimiter_, at + delimiter_.size())) {
        found(at, at + delimiter_.size());
      }
    });
  }
  [[nodiscard]] BeforeSpace before_space() const override {
    return delimiter_ == " " ? BeforeSpace::kBoundary : BeforeSpace::kStable;
  }

 private:
  std::string delimiter_;
};

/// Runs of word characters and runs of characters that are neither word nor space: \w+|[^\w\s]+
class Words : public PreTokenizer {
 public:
  void split(const Piece& piece, Emit emit) const override {
    const auto kind = [](char32_t c) { return is_word(c) ? 1 : is_space(c) ? 0 : 2; };
    size_t begin = 0;
    int running = 0;
    for (size_t i = 0; i < piece.text.size();) {
      const Utf8Char c = decode_utf8(piece.text, i);
      if (const int now = kind(c.code); now != running) {
        if (running != 0) emit(piece.part(begin, i));
        begin = i;
        running = now;
      }
      i += c.bytes;
    }
    if (running != 0) emit(piece.part(begin, piece.text.size()));
  }
  [[nodiscard]] BeforeSpace before_space() const override { return BeforeSpace::kBoundary; }
};

class Metaspace : public PreTokenizer {
 public:
  explicit Metaspace(const JsonEntry& entry) {
    append_utf8(mark_, entry.character("replacement"));
    split_ = entry.flag("split", true);
    scheme_ = read_prepend_scheme(entry);
  }
  void split(const Piece& piece, Emit emit) const override {
    std::string text;
    text.reserve(piece.text.size() + piece.text.size() / 2 + mark_.size());
    size_t front = 0;
    for (size_t i = 0; i < piece.text.size(); ++i) {
      if (piece.text[i] == ' ') {
        text += mark_;
      } else {
        text += piece.text[i];
      }
      if (i + 1 == piece.front) front = text.size();
    }
    const bool wanted = scheme_ == "always" || (scheme_ == "first" && piece.front > 0);
    if (wanted && !text.empty() && !text.starts_with(mark_)) {
      text.insert(0, mark_);
      if (front > 0) front += mark_.size();
    }
    const Piece whole{text, front};
    if (!split_) return emit(whole);
    size_t begin = 0;  // each piece except the first begins with a mark
    for (size_t at = text.find(mark_, 1); at != std::string::npos; at = text.find(mark_, at + mark_.size())) {
      if (at == begin) continue;
      emit(whole.part(begin, at));
      begin = at;
    }
    emit(whole.part(begin, text.size()));
  }
  [[nodiscard]] BeforeSpace before_space() const override {
    return split_ ? BeforeSpace::kBoundary : BeforeSpace::kStable;
  }

 private:
  std::string mark_, scheme_;
  bool split_ = true;
};

class FixedLength : public PreTokenizer {
 public:
  explicit FixedLength(size_t length) : length_(length) {}
  void split(const Piece& piece, Emit emit) const override {
    size_t begin = 0, characters = 0;
    for (size_t i = 0; i < piece.text.size();) {
      i += decode_utf8(piece.text, i).bytes;
      if (++characters == length_ || i == piece.text.size()) {
        emit(piece.part(begin, i));
        begin = i;
        characters = 0;
      }
    }
  }

 private:
  size_t length_;
};

void read(const JsonEntry& entry, std::vector<std::unique_ptr<PreTokenizer>>& all) {
  const std::string type = entry.text("type");
  const auto add = [&](auto step) { all.push_back(std::make_unique<decltype(step)>(std::move(step))); };
  if (type == "Sequence") {
    const JsonEntry steps = entry.list("pretokenizers");
    for (size_t i = 0; i < steps.size(); ++i) read(steps.item(i), all);
  } else if (type == "ByteLevel") {
    add(ByteLevelSplit(entry));
  } else if (type == "Split") {
    add(Split(entry));
  } else if (type == "Digits") {
    add(SplitAtCharacters(&is_numeric,
                          entry.flag("individual_digits") ? Delimiter::kIsolated : Delimiter::kContiguous));
  } else if (type == "Metaspace") {
    add(Metaspace(entry));
  } else if (type == "Whitespace") {
    add(Words());
  } else if (type == "WhitespaceSplit") {
    add(SplitAtCharacters(&is_space, Delimiter::kRemoved));
  } else if (type == "Punctuation") {
    add(SplitAtCharacters(&is_punctuation, read_delimiter(entry, entry.text("behavior", "Isolated"))));
  } else if (type == "BertPreTokenizer") {
    add(SplitAtCharacters(&is_space, Delimiter::kRemoved));
    add(SplitAtCharacters(&is_punctuation, Delimiter::kIsolated));
  } else if (type == "CharDelimiterSplit") {
    add(SplitAtDelimiter(entry.character("delimiter")));
  } else if (type == "FixedLength") {
    const int64_t length = entry.count("length", 5);
    entry.check(length > 0, "expected a length above 0");
    add(FixedLength(static_cast<size_t>(length)));
  } else {
    entry.check(false, "pre_tokenizer '{}' is not supported", shown(type));
  }
}

}  // namespace

ByteLevelSplit::ByteLevelSplit(const JsonEntry& entry)
    : add_space_(entry.flag("add_prefix_space")), words_(entry.flag("use_regex", true)) {}

void ByteLevelSplit::split(const Piece& piece, Emit emit) const {
  std::string spaced;
  Piece whole = piece;
  if (add_space_ && !piece.text.empty() && piece.text.front() != ' ') {
    spaced.reserve(piece.text.size() + 1);
    spaced += ' ';
    spaced += piece.text;
    whole = {spaced, piece.front > 0 ? piece.front + 1 : 0};
  }
  const auto word = [&](const Piece& part) {
    if (!symbols_) return emit(part);
    const std::string text = symbols_of_bytes(part.text);
    emit({text, symbols_of_bytes(part.text.substr(0, part.front)).size()});
  };
  if (!words_) return word(whole);
  for (size_t begin = 0; begin < whole.text.size();) {
    const size_t end = tutti::word_end(whole.text, begin);
    word(whole.part(begin, end));
    begin = end;
  }
}

PreTokenizer::BeforeSpace ByteLevelSplit::before_space() const {
  return words_ ? BeforeSpace::kBoundary : BeforeSpace::kStable;
}

PreTokenizer::WordEnd ByteLevelSplit::word_end() const {
  return words_ && !add_space_ && !symbols_ ? &tutti::word_end : nullptr;
}

std::vector<std::unique_ptr<PreTokenizer>> read_pre_tokenizers(const JsonEntry& entry) {
  std::vector<std::unique_ptr<PreTokenizer>> all;
  read(entry, all);
  return all;
}

}  // namespace tutti
