#pragma once

#include "launcher/launch/child.h"

#include <sys/socket.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// Notices that a host has gone silent: asks each once a second for a connection that its kernel refuses at
/// once, as long as the host and the network to it live, however busy it is. Only hosts that have answered
/// before can go silent, so that a firewall that drops such requests merely makes it blind. Nothing needs to
/// run on the hosts.
class HostWatch {
 public:
  /// Ignores `own`, other names of this machine, and names without an address. `silence_s` whole seconds
  /// without an answer are a loss.
  HostWatch(const std::vector<std::string>& names, std::string_view own, int silence_s = 6);

  /// To be called several times a second. The hosts that have been silent for so long; time in which this
  /// process itself was stopped does not count.
  std::vector<std::string> lost();
  /// How many have answered at least once.
  [[nodiscard]] int64_t known() const;

 private:
  struct Watched {
    std::string name;
    sockaddr_storage address{};
    socklen_t address_bytes = 0;
    Descriptor socket;     ///< the request under way
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
