#pragma once

#include <tutti/core/config/fields.h>

#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// Keys of a run file of another version that this version does not accept.
struct Untaken {
  std::vector<std::string> unknown;  ///< keys: "model.gone"
  std::vector<std::string> refused;  ///< "run.yaml:7: model.norm: expected layer or rms, got 'batch'"
};

/// Reads the keys that are known and have valid values; the members of other keys are not changed. Rules over
/// several keys are not checked. Throws Error naming the text if it is not a YAML map.
Untaken read_tolerantly(std::string_view text, const std::string& name, FunctionRef<void(Fields&)> describe);

/// The same into a described struct.
template <Described T>
Untaken read_tolerantly(std::string_view text, const std::string& name, T& settings) {
  return read_tolerantly(text, name, [&](Fields& fields) { settings.describe(fields); });
}

/// A key with its value as YAML.
struct Setting {
  std::string path;  ///< "model.heads"
  std::string value;
};

/// Which keys list_settings() lists.
enum class ListedKeys : uint8_t {
  kChosen,  ///< those that apply to the current values: of this kind of model
  kAll,
};

std::vector<Setting> list_settings(FunctionRef<void(Fields&)> describe, ListedKeys keys);

/// The same of a described struct.
template <Described T>
std::vector<Setting> list_settings(const T& settings, ListedKeys keys = ListedKeys::kChosen) {
  T copy = settings;
  return list_settings([&](Fields& fields) { copy.describe(fields); }, keys);
}

}  // namespace tutti
