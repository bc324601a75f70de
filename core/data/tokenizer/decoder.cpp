#include "core/data/tokenizer/decoder.h"
#include <tutti/core/data/tokenizer.h>
#include "core/config/utf8.h"
#include "core/data/tokenizer/pattern.h"
#include "core/data/unicode.h"

#include <charconv>

namespace tutti {
namespace {

using Texts = std::vector<std::string>;

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  size_t done = 0;
  for (size_t at = text.find(from); at != std::string_view::npos; at = text.find(from, done)) {
    out.append(text.substr(done, at - done)).append(to);
    done = at + from.size();
  }
  return out.append(text.substr(done));
}

class ByteLevelDecoder : public Decoder {
 public:
  void apply(Texts& tokens) const override {
    std::string all;
    for (const std::string& token : tokens) all += bytes_of_symbols(token).value_or(token);
    tokens = {std::move(all)};
  }
  [[nodiscard]] bool byte_level() const override { return true; }
};

class MetaspaceDecoder : public Decoder {
 public:
  explicit MetaspaceDecoder(const JsonEntry& entry) {
    append_utf8(mark_, entry.character("replacement"));
    drops_first_ = read_prepend_scheme(entry) != "never";
  }
  void apply(Texts& tokens) const override {
    for (size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = replaced(tokens[i], mark_, i == 0 && drops_first_ ? "" : " ");
    }
  }

 private:
  std::string mark_;
  bool drops_first_ = true;
};

/// Consecutive byte tokens become their text, or one U+FFFD each.
class ByteFallback : public Decoder {
 public:
  void apply(Texts& tokens) const override {
    Texts out;
    std::string bytes;
    const auto flush = [&] {
      if (bytes.empty()) return;
      if (is_utf8(bytes)) {
        out.push_back(bytes);
      } else {
        out.insert(out.end(), bytes.size(), "\ufffd");
      }
      bytes.clear();
    };
    for (std::string& token : tokens) {
      if (const auto byte = byte_of(token)) {
        bytes += static_cast<char>(*byte);
      } else {
        flush();
        out.push_back(std::move(token));
      }
    }
    flush();
    tokens = std::move(out);
  }

 private:
  static std::optional<unsigned char> byte_of(const std::string& token) {
    if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return std::nullopt;
    unsigned char byte = 0;
    const char* const end = token.data() + 5;
    const auto [at, error] = std::from_chars(token.data() + 3, end, byte, 16);
    return error == std::errc() && at == end ? std::optional(byte) : std::nullopt;
  }
};

class Fuse : public Decoder {
 public:
  void apply(Texts& tokens) const override {
    std::string all;
    for (const std::string& token : tokens) all += token;
    tokens = {std::move(all)};
  }
};

class StripDecoder : public Decoder {
 public:
  explicit StripDecoder(const JsonEntry& entry) : start_(entry.count("start")), stop_(entry.count("stop")) {
    append_utf8(content_, entry.character("content"));
  }
  void apply(Texts& tokens) const override {
    for (std::string& token : tokens) {
      size_t begin = 0, end = token.size();
      for (int64_t i = 0; i < start_ && token.compare(begin, content_.size(), content_) == 0; ++i) {
        begin += content_.size();
      }
      const size_t n = content_.size();
      for (int64_t i = 0; i < stop_ && end >= begin + n && token.compare(end - n, n, content_) == 0; ++i) {
        end -= n;
      }
      token = token.substr(begin, end - begin);
    }
  }

 private:
  std::string content_;
  int64_t start_, stop_;
};

class ReplaceDecoder : public Decoder {
 public:
  explicit ReplaceDecoder(const JsonEntry& entry)
      : pattern_(entry.at("pattern")), content_(entry.text("content")) {}
  void apply(Texts& tokens) const override {
    for (std::string& token : tokens) {
      std::string out;
      size_t done = 0;
      pattern_.each(token, [&](size_t begin, size_t end) {
        out.append(token, done, begin - done).append(content_);
        done = end;
      });
      token = out.append(token, done);
    }
  }

 private:
  Pattern pattern_;
  std::string content_;
};

/// Removes spaces before punctuation and contractions.
std::string cleaned(std::string text) {
  static constexpr std::pair<std::string_view, std::string_view> kChanges[] = {
      {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
      {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, to] : kChanges) text = replaced(text, from, to);
  return text;
}

class WordPieceDecoder : public Decoder {
 public:
  explicit WordPieceDecoder(const JsonEntry& entry)
      : prefix_(entry.text("prefix")), cleanup_(entry.flag("cleanup")) {}
  void apply(Texts& tokens) const override {
    for (size_t i = 0; i < tokens.size(); ++i) {
      std::string& token = tokens[i];
      if (i > 0) token = token.starts_with(prefix_) ? token.substr(prefix_.size()) : " " + token;
      if (cleanup_) token = cleaned(std::move(token));
    }
  }

 private:
  std::string prefix_;
  bool cleanup_;
};

class BpeDecoder : public Decoder {
 public:
  explicit BpeDecoder(const JsonEntry& entry) : suffix_(entry.text("suffix")) {
    entry.check(!suffix_.empty(), "the suffix is empty");
  }
  void apply(Texts& tokens) const override {
    for (size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = replaced(tokens[i], suffix_, i + 1 == tokens.size() ? "" : " ");
    }
  }

 private:
  std::string suffix_;
};

void read(const JsonEntry& entry, std::vector<std::unique_ptr<Decoder>>& all) {
  const std::string type = entry.text("type");
  const auto add = [&](auto step) { all.push_back(std::make_unique<decltype(step)>(std::move(step))); };
  if (type == "Sequence") {
    const JsonEntry steps = entry.list("decoders");
    for (size_t i = 0; i < steps.size(); ++i) read(steps.item(i), all);
  } else if (type == "ByteLevel") {
    add(ByteLevelDecoder());
  } else if (type == "Metaspace") {
    add(MetaspaceDecoder(entry));
  } else if (type == "ByteFallback") {
    add(ByteFallback());
  } else if (type == "Fuse") {
    add(Fuse());
  } else if (type == "Strip") {
    add(StripDecoder(entry));
  } else if (type == "Replace") {
    add(ReplaceDecoder(entry));
  } else if (type == "WordPiece") {
    add(WordPieceDecoder(entry));
  } else if (type == "BPEDecoder") {
    add(BpeDecoder(entry));
  } else {
    entry.check(false, "decoder '{}' is not supported", shown(type));
  }
}

}  // namespace

std::vector<std::unique_ptr<Decoder>> read_decoders(const JsonEntry& entry) {
  std::vector<std::unique_ptr<Decoder>> all;
  read(entry, all);
  return all;
}

}  // namespace tutti
