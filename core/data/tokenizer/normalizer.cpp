#include "core/data/tokenizer/normalizer.h"
#include <tutti/core/data/tokenizer.h>
#include "core/data/tokenizer/charsmap.h"
#include "core/data/tokenizer/pattern.h"
#include "core/data/unicode.h"

namespace tutti {
namespace {

/// Calls `f(character, out)` for each character; it appends the replacement of the character.
template <class F>
void rewrite(NormalText& text, F&& f) {
  std::string out;
  out.reserve(text.text.size() + text.text.size() / 8);
  size_t front = 0;
  for (size_t i = 0; i < text.text.size();) {
    const Utf8Char c = decode_utf8(text.text, i);
    f(c.code, out);
    i += c.bytes;
    if (i <= text.front) front = out.size();
  }
  text = {std::move(out), front, text.continues};
}

template <class F>
void keep_if(NormalText& text, F&& keep) {
  rewrite(text, [&](char32_t c, std::string& out) {
    if (keep(c)) append_utf8(out, c);
  });
}

size_t first_character(const std::string& text) {
  return text.empty() ? 0 : decode_utf8(text, 0).bytes;
}

class Form : public Normalizer {
 public:
  explicit Form(NormalForm form) : form_(form) {}
  void apply(NormalText& text) const override {
    text.text = normalized(text.text, form_);
    if (text.front > 0) text.front = first_character(text.text);
  }

 private:
  NormalForm form_;
};

class Lowercase : public Normalizer {
 public:
  void apply(NormalText& text) const override {
    rewrite(text, [](char32_t c, std::string& out) { append_lower(out, c); });
  }
};

class StripSpace : public Normalizer {
 public:
  StripSpace(bool left, bool right) : left_(left), right_(right) {}
  void apply(NormalText& text) const override {
    size_t begin = 0, end = 0;  // of the text without surrounding spaces
    bool found = false;
    for (size_t i = 0; i < text.text.size();) {
      const Utf8Char c = decode_utf8(text.text, i);
      if (!is_space(c.code)) {
        if (!found) begin = i;
        found = true;
        end = i + c.bytes;
      }
      i += c.bytes;
    }
    if (!found) begin = end = left_ || right_ ? 0 : text.text.size();
    const size_t from = left_ ? begin : 0;
    const size_t to = right_ ? end : text.text.size();
    if (!found && (left_ || right_)) {
      text.text.clear();
    } else {
      text.text = text.text.substr(from, to - from);
    }
    if (from > 0) text.front = 0;
    text.front = std::min(text.front, text.text.size());
  }
  [[nodiscard]] bool stable_before_space() const override { return false; }

 private:
  bool left_, right_;
};

class StripAccents : public Normalizer {
 public:
  void apply(NormalText& text) const override {
    keep_if(text, [](char32_t c) { return !is_mark(c); });
  }
};

/// The treatment of white space and control characters in neural machine translation. Source: sentencepiece,
/// nmt_nfkc.
class Nmt : public Normalizer {
 public:
  void apply(NormalText& text) const override {
    rewrite(text, [](char32_t c, std::string& out) {
      const bool removed = (c >= 0x01 && c <= 0x08) || c == 0x0b || (c >= 0x0e && c <= 0x1f) || c == 0x7f ||
                           c == 0x8f || c == 0x9f;
      const bool space = c == 0x09 || c == 0x0a || c == 0x0c || c == 0x0d || c == 0x1680 ||
                         (c >= 0x200b && c <= 0x200f) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
                         c == 0xfeff || c == 0xfffd;
      if (!removed) append_utf8(out, space ? U' ' : c);
    });
  }
};

class Prepend : public Normalizer {
 public:
  explicit Prepend(std::string content) : content_(std::move(content)) {}
  void apply(NormalText& text) const override {
    if (text.text.empty() || text.continues) return;
    text.text.insert(0, content_);
    if (text.front > 0) text.front += content_.size();
  }

 private:
  std::string content_;
};

class Replace : public Normalizer {
 public:
  Replace(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  void apply(NormalText& text) const override {
    std::string out;
    size_t done = 0, front = std::string::npos;
    const auto copy = [&](size_t end) {
      if (front == std::string::npos && end >= text.front) front = out.size() + (text.front - done);
      out.append(text.text, done, end - done);
      done = end;
    };
    pattern_.each(text.text, [&](size_t begin, size_t end) {
      copy(begin);
      out += content_;
      if (front == std::string::npos && end >= text.front) front = out.size();
      done = end;
    });
    copy(text.text.size());
    text = {std::move(out), text.front == 0 ? 0 : front, text.continues};
  }
  [[nodiscard]] bool stable_before_space() const override { return pattern_.stable_before_space(); }

 private:
  Pattern pattern_;
  std::string content_;
};

/// The bytes of the text as their symbols in vocabularies of byte-level models.
class ByteSymbols : public Normalizer {
 public:
  void apply(NormalText& text) const override {
    const size_t front = symbols_of_bytes(std::string_view(text.text).substr(0, text.front)).size();
    text = {symbols_of_bytes(text.text), front, text.continues};
  }
};

class Precompiled : public Normalizer {
 public:
  explicit Precompiled(Charsmap map) : map_(std::move(map)) {}
  void apply(NormalText& text) const override {
    std::string out;
    out.reserve(text.text.size());
    map_.append(text.text, out);
    text.text = std::move(out);
    if (text.front > 0) text.front = first_character(text.text);
  }

 private:
  Charsmap map_;
};

/// Source: Devlin et al. 2019, and the published tokenizer of BERT.
class Bert : public Normalizer {
 public:
  explicit Bert(const JsonEntry& entry)
      : clean_(entry.flag("clean_text")),
        chinese_(entry.flag("handle_chinese_chars")),
        lowercase_(entry.flag("lowercase")),
        strip_accents_(entry.flag("strip_accents", lowercase_)) {}

  void apply(NormalText& text) const override {
    if (clean_) {
      rewrite(text, [](char32_t c, std::string& out) {
        const bool space = is_space(c);
        const bool line_space = c == '\t' || c == '\n' || c == '\r';
        if (c == 0 || c == 0xfffd || (!line_space && is_control(c))) return;
        append_utf8(out, space ? U' ' : c);
      });
    }
    if (chinese_) {
      rewrite(text, [](char32_t c, std::string& out) {
        const bool apart = is_chinese(c);
        if (apart) out += ' ';
        append_utf8(out, c);
        if (apart) out += ' ';
      });
    }
    if (strip_accents_) {
      text.text = normalized(text.text, NormalForm::kNfd);
      if (text.front > 0) text.front = first_character(text.text);
      keep_if(text, [](char32_t c) { return !is_nonspacing_mark(c); });
    }
    if (lowercase_) rewrite(text, [](char32_t c, std::string& out) { append_lower(out, c); });
  }

 private:
  static bool is_chinese(char32_t c) {
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x20000 && c <= 0x2a6df) ||
           (c >= 0x2a700 && c <= 0x2b73f) || (c >= 0x2b740 && c <= 0x2b81f) ||
           (c >= 0x2b920 && c <= 0x2ceaf) || (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
  }
  bool clean_, chinese_, lowercase_, strip_accents_;
};

void read(const JsonEntry& entry, std::vector<std::unique_ptr<Normalizer>>& all) {
  const std::string type = entry.text("type");
  const auto add = [&](auto normalizer) {
    all.push_back(std::make_unique<decltype(normalizer)>(std::move(normalizer)));
  };
  if (type == "Sequence") {
    const JsonEntry steps = entry.list("normalizers");
    for (size_t i = 0; i < steps.size(); ++i) read(steps.item(i), all);
  } else if (type == "NFC") {
    add(Form(NormalForm::kNfc));
  } else if (type == "NFD") {
    add(Form(NormalForm::kNfd));
  } else if (type == "NFKC") {
    add(Form(NormalForm::kNfkc));
  } else if (type == "NFKD") {
    add(Form(NormalForm::kNfkd));
  } else if (type == "Lowercase") {
    add(Lowercase());
  } else if (type == "Strip") {
    add(StripSpace(entry.flag("strip_left"), entry.flag("strip_right")));
  } else if (type == "StripAccents") {
    add(StripAccents());
  } else if (type == "Nmt") {
    add(Nmt());
  } else if (type == "Prepend") {
    add(Prepend(entry.text("prepend")));
  } else if (type == "Replace") {
    add(Replace(Pattern(entry.at("pattern")), entry.text("content")));
  } else if (type == "ByteLevel") {
    add(ByteSymbols());
  } else if (type == "Precompiled") {
    add(Precompiled(Charsmap(entry.at("precompiled_charsmap"))));
  } else if (type == "BertNormalizer") {
    add(Bert(entry));
  } else {
    entry.check(false, "normalizer '{}' is not supported", shown(type));
  }
}

}  // namespace

std::vector<std::unique_ptr<Normalizer>> read_normalizers(const JsonEntry& entry) {
  std::vector<std::unique_ptr<Normalizer>> all;
  read(entry, all);
  return all;
}

}  // namespace tutti
