#pragma once

#include "launcher/launch/child.h"

#include <sys/socket.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// A heartbeat without a process on the other hosts: requests a TCP connection from each host once a second,
/// which its kernel refuses immediately while the host and the network are up, however busy the host is. Only
/// hosts that have answered before can be lost: behind a firewall that drops such requests, no loss is
/// detected.
class Heartbeat {
 public:
  /// Ignores `own`, other names of this machine, and names without an address. A host without an
  /// answer for `silence_s` seconds is lost.
  Heartbeat(const std::vector<std::string>& names, std::string_view own, int silence_s = 6);

  /// The lost hosts. Must be called several times a second; time in which this process was stopped does not
  /// count.
  std::vector<std::string> lost();
  /// How many have answered at least once.
  [[nodiscard]] int64_t known() const;

 private:
  struct Watched {
    std::string name;
    sockaddr_storage address{};
    socklen_t address_bytes = 0;
    Descriptor socket;     ///< the pending request
    bool known = false;    ///< has answered at least once
    bool answers = false;  ///< since the last request
    int missed = 0;        ///< requests in a row without an answer
  };
  static void ask(Watched& host);
  static void listen(Watched& host);

  int silence_s_;
  std::chrono::steady_clock::time_point asked_;
  std::vector<Watched> hosts_;
};

}  // namespace tutti
