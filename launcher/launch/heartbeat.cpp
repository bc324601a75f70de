#include "launcher/launch/heartbeat.h"

#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

namespace tutti {
namespace {

// "Discard" of RFC 863: where a machine still serves it, a connection without data does no harm.
constexpr const char* kPort = "9";
constexpr std::chrono::seconds kPeriod{1};

bool is_answer(int error) {
  return error == 0 || error == ECONNREFUSED;
}

/// Whether an address is one of this machine's: only to such can a socket be bound.
bool is_own(const addrinfo& found) {
  const Descriptor socket(::socket(found.ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_storage address{};
  std::memcpy(&address, found.ai_addr, found.ai_addrlen);
  // Any free port.
  if (address.ss_family == AF_INET) reinterpret_cast<sockaddr_in*>(&address)->sin_port = 0;
  if (address.ss_family == AF_INET6) reinterpret_cast<sockaddr_in6*>(&address)->sin6_port = 0;
  return socket.number() >= 0 &&
         bind(socket.number(), reinterpret_cast<const sockaddr*>(&address), found.ai_addrlen) == 0;
}

}  // namespace

Heartbeat::Heartbeat(const std::vector<std::string>& names, std::string_view own, int silence_s)
    : silence_s_(silence_s) {
  hosts_.reserve(names.size());
  for (const std::string& name : names) {
    if (name == own) continue;
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (getaddrinfo(name.c_str(), kPort, &hints, &found) != 0) continue;
    const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owned(found, &freeaddrinfo);
    if (is_own(*found)) continue;
    Watched host{.name = name, .address_bytes = found->ai_addrlen};
    std::memcpy(&host.address, found->ai_addr, found->ai_addrlen);
    hosts_.push_back(std::move(host));
  }
}

void Heartbeat::ask(Watched& host) {
  host.socket =
      Descriptor(::socket(host.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
  host.answers = false;
  if (host.socket.number() < 0) {  // out of descriptors: not a failure of the host
    host.answers = host.known;
    return;
  }
  const auto* address = reinterpret_cast<const sockaddr*>(&host.address);
  const int error = connect(host.socket.number(), address, host.address_bytes) == 0 ? 0 : errno;
  if (error != EINPROGRESS) {
    host.answers = is_answer(error);
    host.socket.close();
  }
}

void Heartbeat::listen(Watched& host) {
  if (host.socket.number() >= 0) {
    pollfd wait{host.socket.number(), POLLOUT, 0};
    if (poll(&wait, 1, 0) == 1) {
      int error = 0;
      socklen_t bytes = sizeof error;
      const int code = getsockopt(host.socket.number(), SOL_SOCKET, SO_ERROR, &error, &bytes);
      host.answers = code == 0 && is_answer(error);
      host.socket.close();
    }
  }
  if (host.answers) {
    host.known = true;
    host.missed = 0;
  }
}

int64_t Heartbeat::known() const {
  return std::count_if(hosts_.begin(), hosts_.end(), [](const Watched& host) { return host.known; });
}

std::vector<std::string> Heartbeat::lost() {
  const auto now = std::chrono::steady_clock::now();
  const bool due = now - asked_ >= kPeriod;
  if (due) asked_ = now;
  std::vector<std::string> silent;
  for (Watched& host : hosts_) {
    listen(host);
    if (due) {
      if (host.known && !host.answers) ++host.missed;
      ask(host);
    }
    if (host.missed >= silence_s_) silent.push_back(host.name);
  }
  return silent;
}

}  // namespace tutti
