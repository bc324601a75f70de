#include <tutti/core/config/run_file.h>
#include <tutti/core/error.h>
#include "core/config/nearest.h"
#include "core/config/value_text.h"
#include "core/system_check.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>

namespace tutti {
namespace {

using Kind = ConfigNode::Kind;

/// Replaces `item` with `value`: sections are merged key by key, so that keys that are not in `value` are
/// kept. Throws Error if it would drop a whole section.
void override_with(ConfigNode& item, ConfigNode value, const std::string& argument, std::string_view key) {
  if (item.kind != Kind::kMap || item.keys.empty()) {
    item = std::move(value);
    return;
  }
  require(value.kind == Kind::kMap, "{}: '{}' is a section with keys in {}; set one of them: --set {}.{}=...",
          argument, key, item.where(), key, item.keys.front());
  for (size_t i = 0; i < value.keys.size(); ++i) {
    const auto found = std::find(item.keys.begin(), item.keys.end(), value.keys[i]);
    const auto index = static_cast<size_t>(found - item.keys.begin());
    if (found == item.keys.end()) {
      item.keys.push_back(value.keys[i]);
      item.items.emplace_back();
    }
    override_with(item.items[index], std::move(value.items[i]), argument,
                  fmt::format("{}.{}", key, value.keys[i]));
  }
}

/// Maximum number of problems in one message.
constexpr size_t kMaxListed = 10;

std::string read_whole(const std::filesystem::path& path) {
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  require_system(file != nullptr, "{}: cannot open the run file", path.string());
  std::string text(static_cast<size_t>(kMaxConfigBytes) + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  require_system(std::ferror(file.get()) == 0, "{}: cannot read the run file", path.string());
  return text;
}

/// Assigns the values of a parsed file to the members of a described struct and collects errors.
class Reader final : public Fields {
 public:
  explicit Reader(const ConfigNode& root) : name_(*root.source) { levels_.push_back({&root, "", {}}); }

  /// Must be called after describe(): throws if there was an error.
  void finish() {
    close_level();
    std::vector<std::string> all;
    all.reserve(unknown_.size() + problems_.size());
    for (const Unknown& unknown : unknown_) all.push_back(text(unknown));
    all.insert(all.end(), problems_.begin(), problems_.end());
    // Rules over several keys are not useful while a single key is invalid.
    if (all.empty()) all = refused_;
    if (all.empty()) return;
    if (all.size() > kMaxListed) {
      const size_t more = all.size() - kMaxListed;
      all.resize(kMaxListed);
      all.push_back(fmt::format("{}: and {} more", name_, more));
    }
    throw Error(fmt::format("{}", fmt::join(all, "\n")));
  }

 protected:
  void on_value(const Field& field) override {
    const ConfigNode* node = enter(field.key);
    if (node == nullptr) return;
    std::string problem = assign(*node, field);
    if (problem.empty() && field.is_path) problem = expand_home(field.target);
    if (!problem.empty()) {
      problems_.push_back(fmt::format("{}: {}: {}", node->where(), path(field.key), problem));
    }
  }

  void on_section(std::string_view key, std::string_view, FunctionRef<void()> describe) override {
    const ConfigNode* node = enter(key);
    if (node != nullptr && node->kind != Kind::kMap) {
      if (node->kind != Kind::kNull) {
        problems_.push_back(fmt::format("{}: {}: expected a section of keys, got {}", node->where(),
                                        path(key), value_text(*node)));
      }
      node = nullptr;
    }
    levels_.push_back({node, path(key), {}});
    describe();
    close_level();
  }

  void on_refused(std::string_view key, std::string_view message) override {
    const ConfigNode* map = levels_.back().map;
    const ConfigNode* node = map != nullptr ? map->find(key) : nullptr;
    refused_.push_back(
        node != nullptr
            ? fmt::format("{}: {}: {}, got {}", node->where(), path(key), message, value_text(*node))
            : fmt::format("{}: {} (not set, so its default): {}", name_, path(key), message));
  }

 private:
  struct Level {
    const ConfigNode* map;  // null where the file has no such section
    std::string path;
    std::vector<std::string> known;
  };
  struct Unknown {
    const ConfigNode* node;
    std::string section;
    std::string key;
    std::vector<std::string> known;
  };

  [[nodiscard]] std::string path(std::string_view key) const {
    const std::string& section = levels_.back().path;
    return section.empty() ? std::string(key) : fmt::format("{}.{}", section, key);
  }

  const ConfigNode* enter(std::string_view key) {
    Level& level = levels_.back();
    require(std::find(level.known.begin(), level.known.end(), key) == level.known.end(),
            "run file: key '{}' is described twice", path(key));
    level.known.emplace_back(key);
    all_.push_back(path(key));
    return level.map != nullptr ? level.map->find(key) : nullptr;
  }

  void close_level() {
    const Level level = std::move(levels_.back());
    levels_.pop_back();
    if (level.map == nullptr) return;
    for (size_t i = 0; i < level.map->keys.size(); ++i) {
      const std::string& key = level.map->keys[i];
      if (std::find(level.known.begin(), level.known.end(), key) == level.known.end()) {
        unknown_.push_back({&level.map->items[i], level.path, key, level.known});
      }
    }
  }

  /// Called only when all keys are known, so that the right section of a misplaced key can be suggested.
  [[nodiscard]] std::string text(const Unknown& unknown) const {
    const std::string full =
        unknown.section.empty() ? unknown.key : fmt::format("{}.{}", unknown.section, unknown.key);
    std::string hint = did_you_mean(unknown.key, unknown.known);
    if (hint.empty()) {
      const auto elsewhere = std::find_if(all_.begin(), all_.end(), [&](const std::string& candidate) {
        return candidate.size() > unknown.key.size() && candidate.ends_with("." + unknown.key);
      });
      if (elsewhere != all_.end()) hint = fmt::format("; did you mean '{}'?", *elsewhere);
    }
    if (hint.empty() && unknown.known.size() <= 20) {
      hint = fmt::format("; the keys here are {}", fmt::join(unknown.known, ", "));
    }
    return fmt::format("{}: {}: unknown key{}", unknown.node->where(), shortened(full), hint);
  }

  std::string name_;
  std::vector<Level> levels_;
  std::vector<std::string> all_;  // every described key's path
  std::vector<Unknown> unknown_;
  std::vector<std::string> problems_;
  std::vector<std::string> refused_;
};

}  // namespace

RunFile::RunFile() {
  root_.kind = Kind::kMap;
  root_.source = std::make_shared<const std::string>("settings");
}

RunFile RunFile::from_file(const std::filesystem::path& path) {
  return from_text(read_whole(path), path.string());
}

RunFile RunFile::from_text(std::string_view text, const std::string& name) {
  RunFile file;
  file.root_ = parse_yaml(text, name);
  require(file.root_.kind != Kind::kNull, "{}: the run file is empty", name);
  require(file.root_.kind == Kind::kMap, "{}: expected keys and values (key: value), got {}",
          file.root_.where(), value_text(file.root_));
  return file;
}

void RunFile::set(std::string_view assignment) {
  const std::string argument = fmt::format("--set {}", shortened(assignment));
  const size_t equals = assignment.find('=');
  require(equals != std::string_view::npos, "{}: expected key=value", argument);
  const std::string_view typed = assignment.substr(equals + 1);

  ConfigNode value;
  try {
    value = parse_yaml(typed, argument, false);
  } catch (const Error&) {
    // Not YAML: accepted by keys of text, refused by the others.
    value.kind = Kind::kScalar;
    value.text = typed;
    value.quoted = true;
    value.source = std::make_shared<const std::string>(argument);
  }
  value.typed = std::string(typed);
  const size_t first = typed.find_first_not_of(" \t");
  // As typed: ` #` begins no comment here, and | and > no block.
  if (value.kind == Kind::kScalar && first != std::string_view::npos && typed[first] != '"' &&
      typed[first] != '\'' && (!value.quoted || typed.find('\n') == std::string_view::npos)) {
    value.text = typed.substr(first, typed.find_last_not_of(" \t") + 1 - first);
  }

  ConfigNode* map = &root_;
  std::string_view rest = assignment.substr(0, equals);
  for (int64_t depth = 0;; ++depth) {
    require(depth < kMaxConfigDepth, "{}: nested deeper than {} levels", argument, kMaxConfigDepth);
    const size_t dot = rest.find('.');
    const std::string key(rest.substr(0, dot));
    require(!key.empty(), "{}: the key has an empty part; expected section.key=value", argument);
    const auto found = std::find(map->keys.begin(), map->keys.end(), key);
    const auto index = static_cast<size_t>(found - map->keys.begin());
    if (found == map->keys.end()) {
      map->keys.push_back(key);
      map->items.emplace_back();
    }
    ConfigNode& item = map->items[index];
    if (dot == std::string_view::npos) {
      override_with(item, std::move(value), argument, assignment.substr(0, equals));
      return;
    }
    if (item.kind == Kind::kNull) {
      item = ConfigNode{};
      item.kind = Kind::kMap;
      item.source = value.source;
    }
    require(item.kind == Kind::kMap, "{}: '{}' is not a section: it has a value at {}", argument, key,
            item.where());
    map = &item;
    rest.remove_prefix(dot + 1);
  }
}

void RunFile::read_fields(FunctionRef<void(Fields&)> describe) const {
  Reader reader(root_);
  describe(reader);
  reader.finish();
}

}  // namespace tutti
