#pragma once

#include <unistd.h>

#include <chrono>
#include <ostream>
#include <string>

namespace tutti {

/// A status line that is updated during the work, on a terminal only.
class StatusLine {
 public:
  explicit StatusLine(std::ostream& err) : err_(err), on_(isatty(STDERR_FILENO) == 1) {}
  ~StatusLine() {
    if (shown_) err_ << "\r\x1b[2K" << std::flush;
  }
  StatusLine(const StatusLine&) = delete;
  StatusLine& operator=(const StatusLine&) = delete;
  void show(const std::string& text) {
    const auto now = std::chrono::steady_clock::now();
    if (!on_ || (shown_ && now - last_ < std::chrono::milliseconds(100))) return;
    err_ << "\r\x1b[2K" << text << std::flush;
    shown_ = true;
    last_ = now;
  }

 private:
  std::ostream& err_;
  bool on_ = false;
  bool shown_ = false;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace tutti
