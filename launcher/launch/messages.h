#pragma once

#include "launcher/launch/child.h"
#include "launcher/launch/ending.h"

#include <iosfwd>
#include <string>
#include <string_view>

namespace tutti {

/// Passes a program's messages on to `err` and notes whom they blame.
class Messages {
 public:
  explicit Messages(std::ostream& err) : err_(err) {}

  /// Reads what is there; false at the end.
  bool pump(const Descriptor& pipe);
  [[nodiscard]] const Blame& blame() const { return blame_; }

 private:
  void look_at(std::string_view text);

  std::ostream& err_;
  std::string line_;
  Blame blame_;
};

}  // namespace tutti
