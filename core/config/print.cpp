#include <tutti/core/config/run_file.h>
#include <tutti/core/error.h>
#include "core/config/value_text.h"

#include <algorithm>

namespace tutti {
namespace {

std::string joined(const std::vector<std::string>& sections, std::string_view key) {
  std::string path;
  for (const std::string& section : sections) path += section + ".";
  return path + std::string(key);
}

/// Writes all keys as YAML.
class YamlWriter final : public Fields {
 public:
  explicit YamlWriter(YamlComments comments) : comments_(comments) {}
  std::string take() { return std::move(text_); }

 protected:
  void on_value(const Field& field) override {
    comment(field.help);
    line("{}: {}", field.key, yaml_text(field.target, joined(sections_, field.key)));
  }
  void on_section(std::string_view key, std::string_view help, FunctionRef<void()> describe) override {
    comment(help);
    const size_t before = text_.size();
    line("{}:", key);
    const size_t header = text_.size();
    sections_.emplace_back(key);
    describe();
    sections_.pop_back();
    // A section without keys: `key:` would read as one without a value.
    if (text_.size() == header) {
      text_.resize(before);
      line("{}: {{}}", key);
    }
  }

 private:
  template <class... Args>
  void line(fmt::format_string<Args...> format, Args&&... args) {
    text_ += std::string(2 * sections_.size(), ' ');
    text_ += fmt::format(format, std::forward<Args>(args)...);
    text_ += '\n';
  }
  void comment(std::string_view help) {
    if (comments_ == YamlComments::kHelp && !help.empty()) line("# {}", help);
  }

  YamlComments comments_;
  std::vector<std::string> sections_;
  std::string text_;
};

/// Collects one row per key and prints them as a table.
class HelpPrinter final : public Fields {
 public:
  [[nodiscard]] bool wants_all() const override { return true; }

  [[nodiscard]] std::string table() const {
    size_t path_width = 0, type_width = 0, value_width = 0;
    for (const Row& row : rows_) {
      if (row.type.empty()) continue;
      path_width = std::max(path_width, row.path.size());
      type_width = std::max(type_width, row.type.size());
      value_width = std::max(value_width, std::min(row.value.size(), kWidestValue));
    }
    std::string text;
    for (const Row& row : rows_) {
      if (row.type.empty()) {
        text += fmt::format("\n{}: {}\n", row.path, row.help);
      } else {
        text += fmt::format("  {:<{}}  {:<{}}  {:<{}}  {}\n", row.path, path_width, row.type, type_width,
                            row.value, value_width, row.help);
      }
    }
    return text;
  }

 protected:
  void on_value(const Field& field) override {
    std::string possible =
        field.choices.empty() ? field.constraint.text() : fmt::format("{}", fmt::join(field.choices, ", "));
    if (!possible.empty()) possible = fmt::format(" ({})", possible);
    const std::string path = joined(sections_, field.key);
    rows_.push_back({path, std::string(field.choices.empty() ? type_text(field.target) : "choice"),
                     yaml_text(field.target, path), fmt::format("{}{}", field.help, possible)});
  }
  void on_section(std::string_view key, std::string_view help, FunctionRef<void()> describe) override {
    rows_.push_back({joined(sections_, key), "", "", std::string(help)});
    sections_.emplace_back(key);
    describe();
    sections_.pop_back();
  }

 private:
  static constexpr size_t kWidestValue = 24;
  struct Row {
    std::string path;
    std::string type;  // empty for a section's heading
    std::string value;
    std::string help;
  };
  std::vector<std::string> sections_;
  std::vector<Row> rows_;
};

}  // namespace

std::string fields_to_yaml(FunctionRef<void(Fields&)> describe, YamlComments comments) {
  YamlWriter writer(comments);
  describe(writer);
  return writer.take();
}

std::string fields_help(FunctionRef<void(Fields&)> describe) {
  HelpPrinter printer;
  describe(printer);
  return printer.table();
}

}  // namespace tutti
