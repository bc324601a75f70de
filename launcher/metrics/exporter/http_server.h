#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace tutti {

/// A small HTTP/1.1 server for infrequent requests: GET and HEAD, one request per connection.
///
/// It runs on its own thread with lowered priority, all signals blocked and the CPU affinity of the creating
/// thread, so that it does not delay other work in the process. The resources that a client can use are
/// bounded: connections, bytes of a request, and the time in either direction.
class HttpServer {
 public:
  struct Options {
    std::string address = "127.0.0.1";  ///< IPv4 or IPv6
    uint16_t port = 0;                  ///< 0: a free one
    std::string token;  ///< clients must send it as "Authorization: Bearer TOKEN"; empty: none
    std::chrono::milliseconds timeout{5000};  ///< to receive a complete request, and to send the response
    int most_connections = 16;                ///< further ones wait
  };
  struct Request {
    std::string_view path;  ///< without the query
    std::string_view accept;
  };
  struct Answer {
    unsigned status = 200;
    std::string content_type = "text/plain; charset=utf-8";
    std::string body;
  };
  /// Called on the server's thread. An exception becomes a response with status 500.
  using Handler = std::function<Answer(const Request& request)>;

  static constexpr uint32_t kMostRequestBytes = 8192;

  /// Throws Error naming address and port if listening fails.
  HttpServer(const Options& options, Handler handler);
  /// Closes all connections.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  [[nodiscard]] uint16_t port() const noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Whether text is an IPv4 or IPv6 address.
bool is_ip_address(const std::string& text);
/// Whether it is a loopback address.
bool is_loopback_address(const std::string& text);

}  // namespace tutti
