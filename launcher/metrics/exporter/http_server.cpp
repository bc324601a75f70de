#include "launcher/metrics/exporter/http_server.h"

#include <tutti/core/error.h>
#include "core/start_thread.h"

#include <openssl/crypto.h>
#include <pthread.h>
#include <sys/resource.h>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include <array>
#include <csignal>
#include <optional>
#include <thread>
#include <utility>

namespace tutti {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;
using beast::error_code;

constexpr int kNiceness = 10;
constexpr std::chrono::seconds kLinger{1};
constexpr size_t kMostLingerBytes = size_t{1} << 20;
constexpr std::chrono::seconds kAcceptAgain{1};  // after an error, such as no file descriptor being left

/// Compares in constant time, so that timing does not reveal a correct prefix.
bool is_authorized(std::string_view header, const std::string& token) {
  if (token.empty()) return true;
  constexpr std::string_view kScheme = "Bearer ";
  if (header.size() != kScheme.size() + token.size() || !header.starts_with(kScheme)) return false;
  return CRYPTO_memcmp(header.data() + kScheme.size(), token.data(), token.size()) == 0;
}

template <class Text>
std::string_view view(const Text& text) {
  return {text.data(), text.size()};
}

/// State shared by all connections.
struct Shared {
  HttpServer::Options options;
  HttpServer::Handler handler;
};

/// One client connection, from accept to the end of the response.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(tcp::socket socket, const Shared& shared, std::function<void()> ended)
      : stream_(std::move(socket)), shared_(shared), ended_(std::move(ended)) {}
  ~Connection() { ended_(); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void start() {
    parser_.header_limit(HttpServer::kMostRequestBytes);
    stream_.expires_after(shared_.options.timeout);
    http::async_read_header(stream_, buffer_, parser_,
                            [self = shared_from_this()](error_code error, size_t) { self->answer(error); });
  }

 private:
  void answer(error_code error) {
    if (error == http::error::header_limit || error == http::error::buffer_overflow) {
      fill({.status = 431, .body = "the request is too large\n"});
    } else if (error && error.category() == http::make_error_code(http::error::bad_method).category() &&
               error != http::error::end_of_stream && error != http::error::partial_message) {
      fill({.status = 400, .body = "not an HTTP request\n"});
    } else if (error) {
      return;  // the client disconnected or timed out
    } else {
      respond(parser_.get());
    }
    response_.keep_alive(false);
    response_.prepare_payload();
    stream_.expires_after(shared_.options.timeout);
    if (head_) {
      head_serializer_.emplace(response_);
      http::async_write_header(stream_, *head_serializer_,
                               [self = shared_from_this()](error_code e, size_t) { self->end(e); });
    } else {
      http::async_write(stream_, response_,
                        [self = shared_from_this()](error_code e, size_t) { self->end(e); });
    }
  }

  void respond(const http::request<http::empty_body>& request) {
    head_ = request.method() == http::verb::head;
    if (!head_ && request.method() != http::verb::get) {
      fill({.status = 405, .body = "only GET and HEAD\n"});
      response_.set(http::field::allow, "GET, HEAD");
      return;
    }
    if (!is_authorized(view(request[http::field::authorization]), shared_.options.token)) {
      fill({.status = 401, .body = "a token is needed: Authorization: Bearer TOKEN\n"});
      response_.set(http::field::www_authenticate, "Bearer");
      return;
    }
    const std::string_view target = view(request.target());
    try {
      fill(shared_.handler(
          {.path = target.substr(0, target.find('?')), .accept = view(request[http::field::accept])}));
    } catch (const std::exception& problem) {
      fill({.status = 500, .body = fmt::format("{}\n", problem.what())});
    }
  }

  void fill(HttpServer::Answer answer) {
    response_.result(answer.status);
    response_.version(11);
    response_.set(http::field::content_type, answer.content_type);
    response_.set(http::field::cache_control, "no-store");
    response_.body() = std::move(answer.body);
  }

  /// Closing a connection while the client still sends resets it, and the response may be lost; so input is
  /// read for a moment.
  void end(error_code error) {
    if (error) return;
    (void)stream_.socket().shutdown(tcp::socket::shutdown_send, error);
    if (error) return;
    stream_.expires_after(kLinger);
    linger(0);
  }

  void linger(size_t bytes) {
    if (bytes > kMostLingerBytes) return;
    stream_.async_read_some(asio::buffer(scratch_),
                            [self = shared_from_this(), bytes](error_code error, size_t more) {
                              if (!error) self->linger(bytes + more);
                            });
  }

  beast::tcp_stream stream_;
  const Shared& shared_;
  std::function<void()> ended_;
  beast::flat_buffer buffer_{HttpServer::kMostRequestBytes};
  http::request_parser<http::empty_body> parser_;
  http::response<http::string_body> response_;
  std::optional<http::response_serializer<http::string_body>> head_serializer_;
  bool head_ = false;
  std::array<char, 4096> scratch_{};
};

}  // namespace

struct HttpServer::State {
  explicit State(Shared parts) : shared(std::move(parts)) {}

  void listen() {
    const Options& o = shared.options;
    error_code error;
    const asio::ip::address address = asio::ip::make_address(o.address, error);
    require(!error, "'{}' is not an IP address", o.address);
    const tcp::endpoint place(address, o.port);
    acceptor.open(place.protocol(), error);
    if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) acceptor.bind(place, error);
    if (!error) acceptor.listen(o.most_connections, error);
    require(!error, "cannot listen on {}:{}: {}", o.address, o.port, error.message());
    port = acceptor.local_endpoint().port();
  }

  void accept() {
    accepting = true;
    acceptor.async_accept([this](error_code error, tcp::socket socket) {
      accepting = false;
      if (error == asio::error::operation_aborted) return;
      if (error) {
        again.expires_after(kAcceptAgain);
        again.async_wait([this](error_code cancelled) {
          if (!cancelled) accept();
        });
        return;
      }
      ++connections;
      std::make_shared<Connection>(std::move(socket), shared, [this] { ended(); })->start();
      if (connections < shared.options.most_connections) accept();
    });
  }

  void ended() {
    --connections;
    if (!accepting && !stopping && connections < shared.options.most_connections) accept();
  }

  // Open connections are destroyed with `io` and use the members before it.
  Shared shared;
  uint16_t port = 0;
  int connections = 0;
  bool accepting = false;
  bool stopping = false;
  asio::io_context io{1};
  tcp::acceptor acceptor{io};
  asio::steady_timer again{io};
  std::thread thread;
};

HttpServer::HttpServer(const Options& options, Handler handler)
    : state_(std::make_unique<State>(Shared{options, std::move(handler)})) {
  state_->listen();
  state_->accept();
  state_->thread = start_thread_without_signals("the HTTP server", [state = state_.get()] {
    (void)pthread_setname_np(pthread_self(), "tutti-http");
    (void)setpriority(PRIO_PROCESS, 0, kNiceness);  // on Linux: of this thread
    state->io.run();
  });
}

HttpServer::~HttpServer() {
  asio::post(state_->io, [state = state_.get()] {
    state->stopping = true;
    state->io.stop();
  });
  state_->thread.join();
}

uint16_t HttpServer::port() const noexcept {
  return state_->port;
}

bool is_ip_address(const std::string& text) {
  error_code error;
  (void)asio::ip::make_address(text, error);
  return !error;
}

bool is_loopback_address(const std::string& text) {
  error_code error;
  const asio::ip::address address = asio::ip::make_address(text, error);
  return !error && address.is_loopback();
}

}  // namespace tutti
