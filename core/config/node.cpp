#include <tutti/core/config/node.h>
#include <tutti/core/error.h>

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

/// Builds the tree from the parser's events. YAML::Node is not used: it expands aliases and hides duplicate
/// keys.
class TreeBuilder final : public YAML::EventHandler {
 public:
  TreeBuilder(std::shared_ptr<const std::string> source, bool lines)
      : source_(std::move(source)), lines_(lines) {}

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
      refuse(mark, fmt::format("key '{}' stands twice, first at {}", node.text, first.where()));
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
  require(static_cast<int64_t>(text.size()) <= kMaxConfigBytes, "{}: longer than {} bytes, no run file is",
          name, kMaxConfigBytes);
  const auto source = std::make_shared<const std::string>(name);
  TreeBuilder builder(source, lines);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    ConfigNode root;
    root.source = source;
    if (parser.HandleNextDocument(builder)) {
      root = builder.take();
      TreeBuilder second(source, lines);
      require(!parser.HandleNextDocument(second), "{}: holds a second YAML document; expected one", name);
      if (!root.source) root.source = source;
    }
    return root;
  } catch (const YAML::Exception& error) {
    fail("{}: not valid YAML: {}", lines ? place(name, error.mark) : name, error.msg);
  }
}

}  // namespace tutti
