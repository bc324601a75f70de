#pragma once

#include <tutti/core/dtype.h>
#include <tutti/core/function_ref.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace tutti {

/// Valid values of a key. Applies to each element of a list and to the value of an optional.
struct Constraint {
  double minimum = -std::numeric_limits<double>::infinity();
  double maximum = std::numeric_limits<double>::infinity();
  bool minimum_excluded = false;
  bool maximum_excluded = false;
  bool not_empty = false;  ///< of a string or list
  int64_t length = -1;     ///< of a list; -1 for any

  /// Whether the number is in the range; false for NaN.
  [[nodiscard]] bool allows(double value) const;
  /// "at least 1", "between 0 and 0.999", "above 0", "not empty"; empty if every value is valid.
  [[nodiscard]] std::string text() const;
};

inline Constraint at_least(double minimum) {
  return {.minimum = minimum};
}
inline Constraint at_most(double maximum) {
  return {.maximum = maximum};
}
inline Constraint between(double minimum, double maximum) {
  return {.minimum = minimum, .maximum = maximum};
}
/// Greater than 0.
inline Constraint positive() {
  return {.minimum = 0, .minimum_excluded = true};
}
inline Constraint not_negative() {
  return at_least(0);
}
/// 0 <= x < 1, as of a momentum.
inline Constraint fraction_below_one() {
  return {.minimum = 0, .maximum = 1, .maximum_excluded = true};
}
inline Constraint not_empty() {
  return {.not_empty = true};
}
/// A list of exactly `length` elements, each between the bounds.
inline Constraint list_of(int64_t length, double minimum = -std::numeric_limits<double>::infinity(),
                          double maximum = std::numeric_limits<double>::infinity()) {
  return {.minimum = minimum, .maximum = maximum, .length = length};
}

/// The member of a key. An empty optional is `null` in a run file.
using FieldTarget =
    std::variant<int64_t*, double*, bool*, std::string*, DType*, std::vector<int64_t>*, std::vector<double>*,
                 std::vector<std::string>*, std::optional<int64_t>*, std::optional<double>*,
                 std::optional<bool>*, std::optional<std::string>*, std::optional<DType>*>;

/// The description of one key.
struct Field {
  std::string_view key;
  FieldTarget target;
  std::string_view help;
  Constraint constraint;
  std::span<const std::string> choices;  ///< the valid strings; empty if all are
  bool is_path = false;  ///< a file or directory: a leading `~` is expanded to a home directory
};

/// Describes a struct of settings, once for all uses: reading run files, `--set`, writing resolved run files
/// and printing help implement it.
///
///     struct GptConfig {
///       int64_t layers = 6;
///       std::string norm = "layer";
///       OptimizerConfig optimizer;
///       void describe(Fields& f) {
///         f.value("layers", layers, "number of blocks", at_least(1));
///         f.choice("norm", norm, {"layer", "rms"}, "kind of normalisation");
///         f.section("optimizer", optimizer, "how weights are updated");
///       }
///     };
///
/// The initial values of the members are the defaults. A member has its final value as soon as its own line
/// of describe() has run, so a later line may depend on it. `help` and keys must outlive the call.
class Fields {
 public:
  virtual ~Fields() = default;

  /// A key of one of the types of FieldTarget.
  template <class T>
  void value(std::string_view key, T& target, std::string_view help, const Constraint& constraint = {}) {
    on_value({.key = key, .target = &target, .help = help, .constraint = constraint, .choices = {}});
  }

  /// A file or directory.
  void path(std::string_view key, std::string& target, std::string_view help,
            const Constraint& constraint = {}) {
    on_value({.key = key,
              .target = &target,
              .help = help,
              .constraint = constraint,
              .choices = {},
              .is_path = true});
  }

  /// A string from a list.
  void choice(std::string_view key, std::string& target, const std::vector<std::string>& choices,
              std::string_view help) {
    on_value({.key = key, .target = &target, .help = help, .constraint = {}, .choices = choices});
  }

  /// A nested struct with a describe() function.
  template <class T>
  void section(std::string_view key, T& nested, std::string_view help) {
    on_section(key, help, [&] { nested.describe(*this); });
  }

  /// A rule over several keys, which must follow them: refuses the value of `key` (one of this struct) with
  /// `message` ("must divide width 384") unless `ok`.
  void check(bool ok, std::string_view key, std::string_view message) {
    if (!ok) on_refused(key, message);
  }

  /// True for help printers: describe() should then list all alternatives, also those that are not selected
  /// by the current values.
  [[nodiscard]] virtual bool wants_all() const { return false; }

 protected:
  virtual void on_value(const Field& field) = 0;
  virtual void on_section(std::string_view key, std::string_view help, FunctionRef<void()> describe) = 0;
  /// Called if a rule of check() is violated. Readers throw; printers ignore it.
  virtual void on_refused(std::string_view key, std::string_view message) {
    (void)key;
    (void)message;
  }
};

/// A struct that describes its settings.
template <class T>
concept Described = requires(T& settings, Fields& fields) { settings.describe(fields); };

void check_fields(std::string_view name, FunctionRef<void(Fields&)> describe);

/// Checks values that are not from a run file like those of a run file. Throws one Error that lists all
/// problems, one per line: `name` and key, the expected and the actual value and the closest valid name.
/// Problems: numbers that are out of range or not finite, unknown choices, violated rules of Fields::check.
template <Described T>
void check_settings(const T& settings, std::string_view name) {
  T copy = settings;
  check_fields(name, [&](Fields& fields) { copy.describe(fields); });
}

}  // namespace tutti
