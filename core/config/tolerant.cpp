#include "core/config/tolerant.h"
#include <tutti/core/config/node.h>
#include <tutti/core/error.h>
#include "core/config/value_text.h"

#include <algorithm>

namespace tutti {
namespace {

std::string below(const std::string& section, std::string_view key) {
  return section.empty() ? std::string(key) : fmt::format("{}.{}", section, key);
}

class TolerantReader final : public Fields {
 public:
  explicit TolerantReader(const ConfigNode& root) { levels_.push_back({&root, "", {}}); }

  Untaken take() {
    close_level();
    return std::move(untaken_);
  }

 protected:
  void on_value(const Field& field) override {
    const ConfigNode* node = enter(field.key);
    if (node == nullptr) return;
    const std::string problem = assign(*node, field);
    if (problem.empty()) return;
    untaken_.refused.push_back(
        fmt::format("{}: {}: {}", node->where(), below(levels_.back().path, field.key), problem));
  }

  void on_section(std::string_view key, std::string_view, FunctionRef<void()> describe) override {
    const ConfigNode* node = enter(key);
    if (node != nullptr && node->kind != ConfigNode::Kind::kMap) node = nullptr;
    levels_.push_back({node, below(levels_.back().path, key), {}});
    describe();
    close_level();
  }

 private:
  struct Level {
    const ConfigNode* map;  // null where the file has no such section
    std::string path;
    std::vector<std::string> known;
  };

  const ConfigNode* enter(std::string_view key) {
    Level& level = levels_.back();
    level.known.emplace_back(key);
    return level.map != nullptr ? level.map->find(key) : nullptr;
  }

  void close_level() {
    const Level level = std::move(levels_.back());
    levels_.pop_back();
    if (level.map == nullptr) return;
    for (const std::string& key : level.map->keys) {
      if (std::find(level.known.begin(), level.known.end(), key) == level.known.end()) {
        untaken_.unknown.push_back(below(level.path, key));
      }
    }
  }

  std::vector<Level> levels_;
  Untaken untaken_;
};

class Lister final : public Fields {
 public:
  explicit Lister(ListedKeys keys) : keys_(keys) {}
  [[nodiscard]] bool wants_all() const override { return keys_ == ListedKeys::kAll; }
  std::vector<Setting> take() { return std::move(settings_); }

 protected:
  void on_value(const Field& field) override {
    const std::string path = below(section_, field.key);
    settings_.push_back({path, yaml_text(field.target, path)});
  }
  void on_section(std::string_view key, std::string_view, FunctionRef<void()> describe) override {
    const std::string outer = section_;
    section_ = below(section_, key);
    describe();
    section_ = outer;
  }

 private:
  ListedKeys keys_;
  std::string section_;
  std::vector<Setting> settings_;
};

}  // namespace

Untaken read_tolerantly(std::string_view text, const std::string& name, FunctionRef<void(Fields&)> describe) {
  const ConfigNode root = parse_yaml(text, name);
  require(root.kind == ConfigNode::Kind::kMap, "{}: expected keys and values (key: value), got {}", name,
          value_text(root));
  TolerantReader reader(root);
  describe(reader);
  return reader.take();
}

std::vector<Setting> list_settings(FunctionRef<void(Fields&)> describe, ListedKeys keys) {
  Lister lister(keys);
  describe(lister);
  return lister.take();
}

}  // namespace tutti
