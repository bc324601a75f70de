#pragma once

#include "launcher/launch/child.h"
#include "launcher/launch/exit_status.h"

#include <iosfwd>
#include <string>
#include <string_view>

namespace tutti {

/// Forwards a program's messages to `err` and attributes its failure.
class Messages {
 public:
  explicit Messages(std::ostream& err) : err_(err) {}

  /// Reads what is there; false at the end.
  bool pump(const Descriptor& pipe);
  [[nodiscard]] const FailureAttribution& attribution() const { return attribution_; }

 private:
  void look_at(std::string_view text);

  std::ostream& err_;
  std::string line_;
  FailureAttribution attribution_;
};

}  // namespace tutti
