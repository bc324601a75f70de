#include <tutti/core/config/fields.h>
#include <tutti/core/error.h>
#include "core/config/value_text.h"

#include <cmath>

namespace tutti {
namespace {

/// Collects the errors in the values of a described struct.
class Checker final : public Fields {
 public:
  explicit Checker(std::string_view name) : path_(name) {}

  void finish() const {
    // Rules over several keys are not useful while a single key is invalid.
    const std::vector<std::string>& all = problems_.empty() ? refused_ : problems_;
    if (!all.empty()) throw Error(fmt::format("{}", fmt::join(all, "\n")));
  }

 protected:
  void on_value(const Field& field) override {
    const std::string problem = check_value(field);
    if (!problem.empty()) problems_.push_back(fmt::format("{}.{}: {}", path_, field.key, problem));
  }
  void on_section(std::string_view key, std::string_view, FunctionRef<void()> describe) override {
    const std::string outer = path_;
    path_ += fmt::format(".{}", key);
    describe();
    path_ = outer;
  }
  void on_refused(std::string_view key, std::string_view message) override {
    refused_.push_back(fmt::format("{}.{}: {}", path_, key, message));
  }

 private:
  std::string path_;
  std::vector<std::string> problems_;
  std::vector<std::string> refused_;
};

}  // namespace

void check_fields(std::string_view name, FunctionRef<void(Fields&)> describe) {
  Checker checker(name);
  describe(checker);
  checker.finish();
}

bool Constraint::allows(double value) const {
  if (std::isnan(value)) return false;
  const bool low = minimum_excluded ? value > minimum : value >= minimum;
  const bool high = maximum_excluded ? value < maximum : value <= maximum;
  return low && high;
}

std::string Constraint::text() const {
  std::vector<std::string> parts;
  if (length >= 0) parts.push_back(fmt::format("{} values", length));
  if (not_empty) parts.emplace_back("not empty");
  const bool low = std::isfinite(minimum);
  const bool high = std::isfinite(maximum);
  if (low && high && !minimum_excluded && !maximum_excluded) {
    parts.push_back(fmt::format("between {} and {}", minimum, maximum));
  } else {
    if (low) parts.push_back(fmt::format("{} {}", minimum_excluded ? "above" : "at least", minimum));
    if (high) parts.push_back(fmt::format("{} {}", maximum_excluded ? "below" : "at most", maximum));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

}  // namespace tutti
