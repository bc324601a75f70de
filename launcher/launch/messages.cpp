#include "launcher/launch/messages.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <ostream>

namespace tutti {

bool Messages::pump(const Descriptor& pipe) {
  std::array<char, 4096> buffer{};
  while (true) {
    const ssize_t n = read(pipe.number(), buffer.data(), buffer.size());
    if (n == 0) return false;
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno == EAGAIN;
    const std::string_view text(buffer.data(), static_cast<size_t>(n));
    err_ << text << std::flush;
    look_at(text);
  }
}

void Messages::look_at(std::string_view text) {
  constexpr size_t kLongestLine = 4096;
  for (const char c : text) {
    if (c != '\n') {
      if (line_.size() < kLongestLine) line_ += c;
      continue;
    }
    attribution_.read_line(line_);
    line_.clear();
  }
}

}  // namespace tutti
