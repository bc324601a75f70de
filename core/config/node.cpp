#include <tutti/core/config/node.h>
#include <tutti/core/error.h>
#include "core/config/utf8.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <sstream>

namespace tutti {
namespace {

std::string place(const std::string& name, const YAML::Mark& mark) {
  return mark.line >= 0 ? fmt::format("{}:{}", name, mark.line + 1) : name;
}

/// Throws Error naming the line of the first byte that is not allowed in a run file. The parser would replace
/// invalid UTF-8, and treats some control characters as the end of the file.
void check_characters(std::string_view text, const std::string& name, bool lines) {
  const auto refuse_at = [&](size_t position, std::string_view message) {
    const auto line = std::count(text.begin(), text.begin() + static_cast<int64_t>(position), '\n') + 1;
    fail("{}: {}", lines ? fmt::format("{}:{}", name, line) : name, message);
  };
  if (const size_t wrong = first_not_utf8(text); wrong < text.size()) {
    refuse_at(wrong, fmt::format("byte 0x{:02x} is not valid UTF-8; expected a run file in UTF-8",
                                 static_cast<unsigned char>(text[wrong])));
  }
  const auto control = std::find_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f;
  });
  if (control != text.end()) {
    refuse_at(static_cast<size_t>(control - text.begin()),
              fmt::format("control character 0x{:02x}; write \"\\x{:02x}\" in double quotes",
                          static_cast<unsigned char>(*control), static_cast<unsigned char>(*control)));
  }
}

/// Throws Error if anything but comments follows `...`, the end of a document.
void check_nothing_follows(std::string_view text, const std::string& name, bool lines) {
  bool ended = false;
  int64_t number = 0;
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    ++number;
    if (!ended) {
      ended = line.starts_with("...") && line.find_first_not_of(" \t\r#", 3) != 3;
      if (!ended) continue;
      line.remove_prefix(3);
    }
    const size_t first = line.find_first_not_of(" \t\r");
    require(first == std::string_view::npos || line[first] == '#',
            "{}: text after the end of the document (`...`) would be ignored; remove `...` or the text",
            lines ? fmt::format("{}:{}", name, number) : name);
  }
}

/// Builds the tree from the parser's events. YAML::Node is not used: it expands aliases and hides duplicate
/// keys.
class TreeBuilder final : public YAML::EventHandler {
 public:
  /// `text` is the input and must outlive this object.
  TreeBuilder(std::string_view text, std::shared_ptr<const std::string> source, bool lines)
      : text_(text), source_(std::move(source)), lines_(lines) {}

  ConfigNode take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    ConfigNode node = make(ConfigNode::Kind::kNull, mark, "", anchor);
    if (expects_key()) refuse(mark, "a key is missing");
    put(std::move(node), mark);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    refuse(mark, "anchors and aliases are not allowed in run files");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    ConfigNode node = make(ConfigNode::Kind::kScalar, mark, tag, anchor);
    check_one_line(mark, value);
    node.text = value;
    node.quoted = tag == "!";
    put(std::move(node), mark);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(make(ConfigNode::Kind::kList, mark, tag, anchor), mark);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(make(ConfigNode::Kind::kMap, mark, tag, anchor), mark);
  }
  void OnMapEnd() override { close(); }

 private:
  [[noreturn]] void refuse(const YAML::Mark& mark, const std::string& message) const {
    fail("{}: {}", lines_ ? place(*source_, mark) : *source_, message);
  }

  /// A missing quote or colon makes the following lines part of the value: YAML allows it, but it is always
  /// an error here. Block scalars (`|`, `>`) are multi-line explicitly.
  void check_one_line(const YAML::Mark& mark, const std::string& value) const {
    const std::string_view rest =
        mark.pos >= 0 ? text_.substr(std::min(static_cast<size_t>(mark.pos), text_.size())) : "";
    if (rest.empty() || rest.front() == '|' || rest.front() == '>') return;
    const char quote = rest.front();
    if (quote != '"' && quote != '\'') {
      if (!rest.starts_with(value)) {
        refuse(mark, "the value continues on the next line; write it on one line, or use `|`");
      }
      return;
    }
    for (size_t i = 1; i < rest.size() && rest[i] != '\n'; ++i) {
      if (rest[i] == '\\' && quote == '"') {
        ++i;
        if (i < rest.size() && rest[i] == '\n') break;
      } else if (rest[i] == quote) {
        if (quote == '"' || i + 1 >= rest.size() || rest[i + 1] != quote) return;
        ++i;  // '' is a quote inside of single quotes
      }
    }
    refuse(mark, fmt::format("the quote {} that begins here is not closed on the same line", quote));
  }

  [[nodiscard]] bool expects_key() const {
    return !open_.empty() && open_.back().kind == ConfigNode::Kind::kMap &&
           open_.back().keys.size() == open_.back().items.size();
  }

  ConfigNode make(ConfigNode::Kind kind, const YAML::Mark& mark, const std::string& tag,
                  YAML::anchor_t anchor) {
    if (anchor != 0) refuse(mark, "anchors and aliases are not allowed in run files");
    if (!tag.empty() && tag != "?" && tag != "!") refuse(mark, "tags are not allowed in run files");
    if (++nodes_ > kMaxConfigNodes) refuse(mark, fmt::format("more than {} values", kMaxConfigNodes));
    ConfigNode node;
    node.kind = kind;
    node.source = source_;
    node.line = lines_ ? mark.line + 1 : 0;
    return node;
  }

  void open(ConfigNode node, const YAML::Mark& mark) {
    if (expects_key()) refuse(mark, "a key must be plain text");
    if (static_cast<int64_t>(open_.size()) >= kMaxConfigDepth) {
      refuse(mark, fmt::format("nested deeper than {} levels", kMaxConfigDepth));
    }
    open_.push_back(std::move(node));
  }

  void close() {
    ConfigNode node = std::move(open_.back());
    open_.pop_back();
    finish(std::move(node));
  }

  void put(ConfigNode node, const YAML::Mark& mark) {
    if (!expects_key()) {
      finish(std::move(node));
      return;
    }
    ConfigNode& map = open_.back();
    const auto twin = std::find(map.keys.begin(), map.keys.end(), node.text);
    if (twin != map.keys.end()) {
      const ConfigNode& first = map.items[static_cast<size_t>(twin - map.keys.begin())];
      refuse(mark, fmt::format("duplicate key '{}', first at {}", node.text, first.where()));
    }
    map.keys.push_back(std::move(node.text));
  }

  void finish(ConfigNode node) {
    if (open_.empty()) {
      root_ = std::move(node);
    } else {
      open_.back().items.push_back(std::move(node));
    }
  }

  std::string_view text_;
  std::shared_ptr<const std::string> source_;
  bool lines_;
  int64_t nodes_ = 0;
  std::vector<ConfigNode> open_;
  ConfigNode root_;
};

}  // namespace

std::string ConfigNode::where() const {
  return line > 0 ? fmt::format("{}:{}", *source, line) : *source;
}

const ConfigNode* ConfigNode::find(std::string_view key) const {
  const auto found = std::find(keys.begin(), keys.end(), key);
  return found == keys.end() ? nullptr : &items[static_cast<size_t>(found - keys.begin())];
}

ConfigNode parse_yaml(std::string_view text, const std::string& name, bool lines) {
  require(static_cast<int64_t>(text.size()) <= kMaxConfigBytes, "{}: longer than {} bytes: not a run file",
          name, kMaxConfigBytes);
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  check_characters(text, name, lines);
  check_nothing_follows(text, name, lines);
  const auto source = std::make_shared<const std::string>(name);
  TreeBuilder builder(text, source, lines);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    ConfigNode root;
    root.source = source;
    if (parser.HandleNextDocument(builder)) {
      root = builder.take();
      TreeBuilder second(text, source, lines);
      require(!parser.HandleNextDocument(second), "{}: contains a second YAML document; expected one", name);
      if (!root.source) root.source = source;
    }
    return root;
  } catch (const YAML::Exception& error) {
    const std::string where = lines ? place(name, error.mark) : name;
    // An alias without its anchor; newer versions of yaml-cpp add its name.
    if (error.msg.starts_with("the referenced anchor is not defined"))
      fail("{}: anchors and aliases are not allowed in run files", where);
    fail("{}: not valid YAML: {}", where, error.msg);
  }
}

}  // namespace tutti
