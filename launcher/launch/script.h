#pragma once

#include "launcher/launch/spec.h"

#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// The directives at the top of a job script.
class Directives {
 public:
  /// `prefix` begins each line: "#SBATCH".
  explicit Directives(std::string_view prefix) : prefix_(prefix) {}
  /// Adds a line of words that check() has accepted.
  void add(std::string_view text);
  /// The same for options of which one is given: nothing is added for an empty value.
  void add_if(std::string_view option, std::string_view value);
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string prefix_;
  std::string text_;
};

/// Throws Error if a path has characters that are special in a directive of this scheduler. `also` names
/// further characters that are allowed, such as a space.
void check_directive_path(std::string_view path, std::string_view scheduler, std::string_view also = "");

/// A job script: the directives, then the working directory and the supervised launch. `log_id` is the
/// variable in the name of the log where the script itself writes one.
std::string job_script(const LaunchSpec& spec, const Directives& directives, std::string_view submit_line,
                       LimitSignal signal, std::string_view log_id = "");

/// The path of the script of this launch.
std::string script_path(const LaunchSpec& spec, std::string_view extension);

}  // namespace tutti
