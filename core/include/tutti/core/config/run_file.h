#pragma once

#include <tutti/core/config/fields.h>
#include <tutti/core/config/node.h>

#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace tutti {

/// A parsed run file with its overrides, which is read into a described struct.
class RunFile {
 public:
  /// An empty run file: only overrides change values.
  RunFile();
  /// Throws Error naming the file, and the line where there is one, if it cannot be read, is empty, or is not
  /// a YAML map within the limits of node.h.
  static RunFile from_file(const std::filesystem::path& path);
  /// The same for a text; `name` is its name in messages.
  static RunFile from_text(std::string_view text, const std::string& name);

  /// Overrides a key, like `--set train.steps=100` on the command line. The value is YAML: `[0.9, 0.95]` is a
  /// list, `null` empties an optional, and a section of keys changes only those keys. For keys of text, a
  /// value that is not a YAML scalar or contains ` #` is used unparsed.
  void set(std::string_view assignment);

  /// Reads the keys into the members of `settings`; members of absent keys are not changed.
  /// Throws one Error that lists all problems, one per line: location, key, expected and actual value and the
  /// closest valid name. Problems: unknown keys, wrong types, invalid values, violated rules of
  /// Fields::check. On error `settings` is unchanged.
  template <Described T>
  void read(T& settings) const {
    T copy = settings;
    read_fields([&](Fields& fields) { copy.describe(fields); });
    settings = std::move(copy);
  }

 private:
  void read_fields(FunctionRef<void(Fields&)> describe) const;
  ConfigNode root_;
};

/// Reads a run file and then the overrides ("train.steps=100") into `settings`.
template <Described T>
void read_run_file(const std::filesystem::path& path, T& settings, std::span<const std::string> sets = {}) {
  RunFile file = RunFile::from_file(path);
  for (const std::string& assignment : sets) file.set(assignment);
  file.read(settings);
}

/// The same for a text; `name` is its name in messages.
template <Described T>
void read_text(std::string_view text, const std::string& name, T& settings,
               std::span<const std::string> sets = {}) {
  RunFile file = RunFile::from_text(text, name);
  for (const std::string& assignment : sets) file.set(assignment);
  file.read(settings);
}

/// Applies one override ("train.steps=100") to `settings`.
template <Described T>
void apply_set(std::string_view assignment, T& settings) {
  RunFile file;
  file.set(assignment);
  file.read(settings);
}

/// Whether the resolved run file explains its keys.
enum class YamlComments : uint8_t { kNone, kHelp };

std::string fields_to_yaml(FunctionRef<void(Fields&)> describe, YamlComments comments);
std::string fields_help(FunctionRef<void(Fields&)> describe);

/// All keys and values as a run file from which read() restores the same struct. Throws Error naming the key
/// if a text is not UTF-8 or a number is not finite: YAML cannot represent them.
template <Described T>
std::string to_yaml(const T& settings, YamlComments comments = YamlComments::kNone) {
  T copy = settings;
  return fields_to_yaml([&](Fields& fields) { copy.describe(fields); }, comments);
}

/// A table of all keys: path, type, default, possible values, help. `settings` contains the defaults.
template <Described T>
std::string help_text(const T& settings) {
  T copy = settings;
  return fields_help([&](Fields& fields) { copy.describe(fields); });
}

}  // namespace tutti
