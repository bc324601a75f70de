#include "launcher/metrics/exporter/exporter.h"
#include "launcher/metrics/exporter/http_server.h"
#include "tests/temporary_directory.h"

#include <gtest/gtest.h>
#include <tutti/core/error.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <regex>
#include <set>
#include <sstream>
#include <thread>

namespace tutti {
namespace {

/// A client with plain sockets, so that the server is not tested with its own library.
class Client {
 public:
  explicit Client(uint16_t port) : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in place{};
    place.sin_family = AF_INET;
    place.sin_port = htons(port);
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(socket_, reinterpret_cast<const sockaddr*>(&place), sizeof place), 0);
  }
  ~Client() { (void)close(socket_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  /// False once the server has closed the connection.
  bool send(std::string_view text) {
    while (!text.empty()) {
      const ssize_t n = ::send(socket_, text.data(), text.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      text.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  }
  /// All data until the server closes the connection.
  std::string receive() {
    std::string text;
    char buffer[4096];
    for (ssize_t n = 0; (n = recv(socket_, buffer, sizeof buffer, 0)) > 0;) {
      text.append(buffer, static_cast<size_t>(n));
    }
    return text;
  }

 private:
  int socket_;
};

std::string ask(uint16_t port, const std::string& request) {
  Client client(port);
  EXPECT_TRUE(client.send(request));
  return client.receive();
}

std::string get(uint16_t port, const std::string& path, const std::string& headers = "") {
  return ask(port, "GET " + path + " HTTP/1.1\r\nHost: here\r\n" + headers + "\r\n");
}

std::string body(const std::string& response) {
  const size_t end = response.find("\r\n\r\n");
  return end == std::string::npos ? "no end of the header" : response.substr(end + 4);
}

std::string status(const std::string& response) {
  return response.substr(0, response.find("\r\n"));
}

HttpServer::Answer echo(const HttpServer::Request& request) {
  if (request.path == "/throws") throw Error("something broke");
  return {.body = std::string(request.path) + "|" + std::string(request.accept)};
}

TEST(HttpServerTest, AnswersGetAndHeadAndRefusesTheRest) {
  const HttpServer server({}, &echo);
  const std::string response = get(server.port(), "/a?b=c", "Accept: text/x\r\n");
  EXPECT_EQ(status(response), "HTTP/1.1 200 OK");
  EXPECT_EQ(body(response), "/a|text/x");
  EXPECT_NE(response.find("Connection: close"), std::string::npos) << response;
  const std::string head = ask(server.port(), "HEAD /abc HTTP/1.1\r\nHost: here\r\n\r\n");
  EXPECT_NE(head.find("Content-Length: 5\r\n"), std::string::npos) << head;
  EXPECT_EQ(body(head), "");
  const std::string post =
      ask(server.port(), "POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 3\r\n\r\nabc");
  EXPECT_EQ(status(post), "HTTP/1.1 405 Method Not Allowed");
  EXPECT_NE(post.find("Allow: GET, HEAD"), std::string::npos);
  EXPECT_EQ(status(get(server.port(), "/throws")), "HTTP/1.1 500 Internal Server Error");
  EXPECT_EQ(status(ask(server.port(), "nonsense\r\n\r\n")), "HTTP/1.1 400 Bad Request");
  EXPECT_EQ(body(ask(server.port(), "GET /old HTTP/1.0\r\n\r\n")), "/old|");
}

TEST(HttpServerTest, RefusesRequestsThatAreTooLarge) {
  const HttpServer server({}, &echo);
  for (const size_t bytes : {size_t{8192}, size_t{20000}, size_t{300000}}) {
    const std::string response = get(server.port(), "/", "X: " + std::string(bytes, 'x') + "\r\n");
    EXPECT_EQ(status(response), "HTTP/1.1 431 Request Header Fields Too Large") << bytes;
  }
  EXPECT_EQ(status(get(server.port(), "/", "X: " + std::string(8000, 'x') + "\r\n")), "HTTP/1.1 200 OK");
}

TEST(HttpServerTest, ClosesSlowConnectionsAndThenServesThoseThatWaited) {
  const HttpServer server({.timeout = std::chrono::milliseconds(200), .most_connections = 2}, &echo);
  Client silent(server.port());
  Client half(server.port());
  EXPECT_TRUE(half.send("GET / HT"));
  // Waits for one of the two connections, which are free only when their clients have timed out.
  EXPECT_EQ(status(get(server.port(), "/")), "HTTP/1.1 200 OK");
  EXPECT_EQ(silent.receive(), "");
  EXPECT_EQ(half.receive(), "");
}

TEST(HttpServerTest, RequiresItsToken) {
  const std::string token = "0123456789abcdef";
  const HttpServer server({.token = token}, &echo);
  const auto with = [&](const std::string& header) { return status(get(server.port(), "/", header)); };
  EXPECT_EQ(with("Authorization: Bearer " + token + "\r\n"), "HTTP/1.1 200 OK");
  for (const std::string& wrong :
       std::vector<std::string>{"", "Authorization: Bearer 0123456789abcdeX\r\n",
                                "Authorization: Bearer " + token + "0\r\n", "Authorization: Bearer \r\n",
                                "Authorization: Basic " + token + "\r\n", "Accept: " + token + "\r\n"}) {
    EXPECT_EQ(with(wrong), "HTTP/1.1 401 Unauthorized") << wrong;
  }
  EXPECT_NE(get(server.port(), "/").find("WWW-Authenticate: Bearer"), std::string::npos);
}

TEST(HttpServerTest, NamesAPortInUse) {
  const HttpServer first({}, &echo);
  try {
    const HttpServer second({.port = first.port()}, &echo);
    FAIL() << "two servers on one port";
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()),
              "cannot listen on 127.0.0.1:" + std::to_string(first.port()) + ": Address already in use");
  }
  EXPECT_THROW(HttpServer({.address = "localhost:1"}, &echo), Error);
}

TEST(HttpServerTest, EndsWhileClientsAreConnected) {
  std::optional<HttpServer> server(std::in_place, HttpServer::Options{}, &echo);
  Client silent(server->port());
  Client half(server->port());
  EXPECT_TRUE(half.send("GET /"));
  (void)get(server->port(), "/");
  server.reset();
  EXPECT_EQ(silent.receive(), "");
}

TEST(HttpServerTest, DistinguishesAddresses) {
  EXPECT_TRUE(is_loopback_address("127.0.0.1") && is_loopback_address("::1") && is_ip_address("10.0.0.1"));
  EXPECT_FALSE(is_loopback_address("10.0.0.1") || is_ip_address("node1") || is_ip_address(""));
}

RankMetrics trained() {
  RankMetrics metrics{.run = "runs/a", .host = "node1", .version = "0.1.0", .rank = 3, .counts_tokens = true};
  metrics.last = {.step = 7, .total_steps = 90, .loss = 2.5, .learning_rate = 0.001, .memory_bytes = 1 << 30};
  metrics.steps = 2;
  metrics.predictions = 12345678901;
  metrics.comm_wait_s = 0.25;
  return metrics;
}

TEST(OpenMetricsTest, WritesSamplesWithTheirLabels) {
  const std::string text = metrics_text(trained(), MetricsFormat::kOpenMetrics);
  const std::string labels = R"({run="runs/a",rank="3",host="node1"})";
  for (const std::string& line :
       {"tutti_step" + labels + " 7", "tutti_loss" + labels + " 2.5",
        "tutti_learning_rate" + labels + " 0.001", "tutti_tokens_total" + labels + " 12345678901",
        "tutti_comm_wait_seconds_total" + labels + " 0.25",
        "tutti_tensor_peak_bytes" + labels + " 1073741824",
        std::string(R"(tutti_build_info{run="runs/a",rank="3",host="node1",version="0.1.0"} 1)"),
        std::string("# TYPE tutti_comm_wait_seconds counter"),
        std::string("# UNIT tutti_comm_wait_seconds seconds"), std::string("# TYPE tutti_build info")}) {
    EXPECT_NE(text.find("\n" + line + "\n"), std::string::npos) << line << "\n" << text;
  }
  EXPECT_TRUE(text.ends_with("\n# EOF\n"));
  EXPECT_EQ(text.find("tutti_evaluation_loss{"), std::string::npos) << "nothing has been evaluated";
}

TEST(OpenMetricsTest, TheOlderFormatNamesFamiliesByTheirSamples) {
  const std::string text = metrics_text(trained(), MetricsFormat::kPrometheus);
  EXPECT_NE(text.find("# TYPE tutti_steps_total counter\n"), std::string::npos);
  EXPECT_NE(text.find("# TYPE tutti_build_info gauge\n"), std::string::npos);
  EXPECT_EQ(text.find("# UNIT"), std::string::npos);
  EXPECT_EQ(text.find("# EOF"), std::string::npos);
}

TEST(OpenMetricsTest, EscapesLabelsAndWritesNonFiniteNumbers) {
  RankMetrics metrics = trained();
  metrics.run = "a\"b\\c\nd\xFF";
  metrics.last.loss = std::numeric_limits<double>::quiet_NaN();
  metrics.last.grad_norm = -std::numeric_limits<double>::infinity();
  const std::string text = metrics_text(metrics, MetricsFormat::kOpenMetrics);
  const std::string labels = R"({run="a\"b\\c\nd?",rank="3",host="node1"})";
  EXPECT_NE(text.find("tutti_loss" + labels + " NaN\n"), std::string::npos) << text;
  EXPECT_NE(text.find("tutti_gradient_norm" + labels + " -Inf\n"), std::string::npos);
}

TEST(OpenMetricsTest, FamiliesHaveUniqueNamesWithUnits) {
  std::set<std::string> names;
  const std::regex valid("[a-z_]+");
  for (const MetricFamily& family : metric_families()) {
    EXPECT_TRUE(names.insert(std::string(family.name)).second) << family.name;
    EXPECT_TRUE(std::regex_match(std::string(family.name), valid)) << family.name;
    EXPECT_TRUE(family.unit.empty() || family.name.ends_with("_" + std::string(family.unit))) << family.name;
    EXPECT_FALSE(family.name.ends_with("_total")) << family.name;
  }
}

TEST(OpenMetricsTest, DashboardAndRulesUseExistingMetrics) {
  std::set<std::string> served;
  for (const MetricFamily& family : metric_families()) served.insert(sample_name(family));
  const std::filesystem::path folder =
      std::filesystem::path(TUTTI_GOLDEN_FOLDER) / "../../../cluster/monitoring";
  for (const char* const file : {"grafana.json", "alerts.yml", "alerts_test.yml"}) {
    const std::string text = read_all(folder / file);
    const std::regex word("[A-Za-z0-9_:]+");
    int named = 0;
    for (std::sregex_iterator i(text.begin(), text.end(), word), end; i != end; ++i) {
      const std::string name = i->str();
      if (!name.starts_with("tutti_") && !name.starts_with("process_")) continue;
      EXPECT_TRUE(served.contains(name)) << file << ": " << name;
      ++named;
    }
    EXPECT_GT(named, 10) << file;
  }
}

TEST(OpenMetricsTest, SelectsTheFormatOfTheClient) {
  EXPECT_EQ(accepted_format(""), MetricsFormat::kOpenMetrics);
  EXPECT_EQ(accepted_format("*/*"), MetricsFormat::kOpenMetrics);
  EXPECT_EQ(
      accepted_format("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"),
      MetricsFormat::kOpenMetrics);
  EXPECT_EQ(accepted_format("text/plain;version=0.0.4"), MetricsFormat::kPrometheus);
}

/// A port that was free when it was checked.
uint16_t free_port() {
  return HttpServer({}, &echo).port();
}

TEST(MetricsExporterTest, ServesReportedValues) {
  SinglePeer alone;
  const int64_t port = free_port();
  MetricsExporter exporter({.port = port}, {.run = "r", .host = "h", .counts_tokens = true}, alone);
  ASSERT_EQ(exporter.targets(), std::vector{"127.0.0.1:" + std::to_string(port)});
  EXPECT_EQ(exporter.notices().size(), 1U);
  const auto page = [&] { return body(get(static_cast<uint16_t>(port), "/metrics")); };
  EXPECT_EQ(page().find("\ntutti_loss{"), std::string::npos);
  exporter.on_step(
      {.step = 11, .loss = 3, .samples = 4, .predictions = 40, .step_s = 0.5, .data_wait_s = 0.125});
  exporter.on_step({.step = 12, .loss = 2, .skipped = true, .samples = 4, .predictions = 40, .step_s = 0.25});
  exporter.on_evaluation({.step = 12, .loss = 1.5, .accuracy = 0.75});
  exporter.on_checkpoint({.step = 12, .wall_s = 2});
  exporter.on_checkpoint({.step = 13, .wall_s = 1, .error = "disk full"});
  const std::string text = page();
  const std::string labels = R"({run="r",rank="0",host="h"} )";
  for (const auto& [name, value] :
       std::map<std::string, std::string>{{"tutti_step", "12"},
                                          {"tutti_steps_total", "2"},
                                          {"tutti_skipped_steps_total", "1"},
                                          {"tutti_samples_total", "8"},
                                          {"tutti_tokens_total", "80"},
                                          {"tutti_step_seconds_total", "0.75"},
                                          {"tutti_data_wait_seconds_total", "0.125"},
                                          {"tutti_last_step_seconds", "0.25"},
                                          {"tutti_evaluation_accuracy_ratio", "0.75"},
                                          {"tutti_checkpoints_total", "1"},
                                          {"tutti_failed_checkpoints_total", "1"},
                                          {"tutti_checkpoint_seconds_total", "3"},
                                          {"tutti_last_checkpoint_step", "12"}}) {
    EXPECT_NE(text.find("\n" + name + labels + value + "\n"), std::string::npos) << name << "\n" << text;
  }
  EXPECT_NE(status(get(static_cast<uint16_t>(port), "/")), "HTTP/1.1 200 OK");
}

TEST(MetricsExporterTest, TrainingContinuesWithoutAPort) {
  const HttpServer taken({}, &echo);
  SinglePeer alone;
  MetricsExporter exporter({.port = taken.port()}, {.run = "r", .host = "h"}, alone);
  EXPECT_TRUE(exporter.targets().empty());
  ASSERT_EQ(exporter.notices().size(), 1U);
  EXPECT_NE(exporter.notices()[0].find("no metrics of rank 0 on h: cannot listen on 127.0.0.1:"),
            std::string::npos);
  exporter.on_step({.step = 1});
}

TEST(MetricsExporterTest, RanksOfAHostHaveSeparatePorts) {
  class Second final : public Peers {  // rank 2 of ranks on hosts a, b, a
   public:
    [[nodiscard]] int rank() const override { return 2; }
    [[nodiscard]] int size() const override { return 3; }
    std::vector<std::string> all_gather(const std::string& mine) override {
      if (mine == "a") return {"a", "b", "a"};
      return {mine, mine, mine};
    }
  } peers;
  const int64_t port = free_port();
  const MetricsExporter exporter({.port = port - 1}, {.host = "a"}, peers);
  EXPECT_EQ(exporter.targets().back(), "127.0.0.1:" + std::to_string(port));
}

TEST(MetricsExporterTest, AllRanksMustHaveTheToken) {
  // Three ranks, one of which has no token: the result is the same on all.
  class Uneven final : public Peers {
   public:
    explicit Uneven(int rank) : rank_(rank) {}
    [[nodiscard]] int rank() const override { return rank_; }
    [[nodiscard]] int size() const override { return 3; }
    std::vector<std::string> all_gather(const std::string& mine) override {
      if (mine == "h") return {"a", "b", "c"};
      if (mine == "token" || mine.empty()) return {"token", "", "token"};
      return {mine, mine, mine};
    }

   private:
    int rank_;
  };
  const TemporaryDirectory folder;
  const std::string path = (folder / "token").string();
  write_all(path, "0123456789abcdef\n");
  ASSERT_EQ(chmod(path.c_str(), 0600), 0);
  for (const int rank : {0, 1, 2}) {
    Uneven peers(rank);
    try {
      const MetricsExporter exporter({.port = free_port(), .token_file = rank == 1 ? "" : path},
                                     {.host = "h"}, peers);
      ADD_FAILURE() << "rank " << rank << " accepts the tokens";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("rank 0 on a has a token and rank 1 on b has none"),
                std::string::npos)
          << error.what();
    }
  }
}

TEST(MetricsExporterTest, StepsAndScrapesRunConcurrently) {
  SinglePeer alone;
  const int64_t port = free_port();
  MetricsExporter exporter({.port = port}, {.run = "r", .host = "h"}, alone);
  std::atomic<bool> done = false;
  std::thread scraper([&] {
    for (int i = 0; i < 40; ++i) {
      EXPECT_TRUE(body(get(static_cast<uint16_t>(port), "/metrics")).ends_with("# EOF\n"));
    }
    done = true;
  });
  for (int64_t step = 1; !done; ++step) {
    exporter.on_step({.step = step, .loss = 1.0 / static_cast<double>(step)});
    if (step % 100 == 0) exporter.on_checkpoint({.step = step});
  }
  scraper.join();
}

TEST(MetricsTokenTest, TokenFilesMustBePrivate) {
  const TemporaryDirectory folder;
  const std::string path = (folder / "token").string();
  write_all(path, "0123456789abcdef\n");
  const auto refusal = [&] {
    try {
      (void)metrics_token(path);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  for (const mode_t mode : {0640U, 0604U, 0620U, 0666U}) {
    ASSERT_EQ(chmod(path.c_str(), mode), 0);
    EXPECT_NE(refusal().find("chmod 600 " + path), std::string::npos) << mode;
  }
  ASSERT_EQ(chmod(path.c_str(), 0600), 0);
  EXPECT_EQ(metrics_token(path), "0123456789abcdef");
  for (const char* const bad :
       {"short\n", "0123456789 abcdef\n", "", "0123456789abcdef\n0123456789abcdef\n"}) {
    write_all(path, bad);
    EXPECT_NE(refusal().find("16"), std::string::npos) << bad;
  }
  EXPECT_THROW(metrics_token(folder.path().string()), Error);
  EXPECT_THROW(metrics_token((folder / "nowhere").string()), Error);
  ASSERT_EQ(setenv("TUTTI_METRICS_TOKEN", "fedcba9876543210", 1), 0);
  EXPECT_EQ(metrics_token(""), "fedcba9876543210");
  // An empty or invalid token is an error, and does not disable the check.
  for (const char* const bad : {"", " ", "\n", "\t \n", "                    ", "short"}) {
    ASSERT_EQ(setenv("TUTTI_METRICS_TOKEN", bad, 1), 0);
    EXPECT_THROW(metrics_token(""), Error) << '"' << bad << '"';
  }
  for (const char* const bad : {"\n", "   \n", "\r\n", "                    \n"}) {
    write_all(path, bad);
    EXPECT_THROW(metrics_token(path), Error) << '"' << bad << '"';
  }
  ASSERT_EQ(unsetenv("TUTTI_METRICS_TOKEN"), 0);
  EXPECT_EQ(metrics_token(""), "");
}

TEST(TargetsFileTest, IsInTheRunDirectoryOrTheTargetsDirectory) {
  EXPECT_EQ(targets_path("", "runs/a"), "runs/a/metrics-targets.json");
  // The digits are the first of the SHA-256 of "home/ada/runs/a".
  EXPECT_EQ(targets_path("/srv/targets", "/home/ada/runs/x/../a/"),
            "/srv/targets/home-ada-runs-a-a76d7814.json");
  EXPECT_NE(targets_path("/srv/targets", "/x/y"), targets_path("/srv/targets", "/x-y"));
  const std::string longest =
      targets_path("/srv/targets", "/" + std::string(200, 'a') + "/" + std::string(200, 'b'))
          .filename()
          .string();
  EXPECT_LE(longest.size(), 255U) << "longer than names on Linux";
}

TEST(TargetsFileTest, ExistsDuringTheRun) {
  const TemporaryDirectory folder;
  const std::filesystem::path path = folder / "metrics-targets.json";
  {
    const TargetsFile file(path, targets_json({"127.0.0.1:9400", "127.0.0.1:9401"}, "runs/a", "0a1b"),
                           "0a1b");
    EXPECT_NE(read_all(path).find("\"127.0.0.1:9401\""), std::string::npos);
    EXPECT_NE(read_all(path).find("\"run\": \"runs/a\""), std::string::npos);
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(TargetsFileTest, DoesNotReplaceOrRemoveForeignFiles) {
  const TemporaryDirectory folder;
  const std::filesystem::path path = folder / "targets.json";
  const std::string own = targets_json({"127.0.0.1:9400"}, "runs/a", "0a1b");
  for (const std::string& text :
       {std::string("mine"), std::string(), std::string("[]"), std::string("[1]"),
        std::string("[{\"labels\": 3}]"), targets_json({"127.0.0.1:9400"}, "runs/a", "0a1c")}) {
    write_all(path, text);
    EXPECT_THROW(TargetsFile(path, own, "0a1b"), Error) << text;
    EXPECT_EQ(read_all(path), text);
  }
  std::filesystem::rename(path, folder / "other");
  std::filesystem::create_symlink(folder / "other", path);
  EXPECT_THROW(TargetsFile(path, own, "0a1c"), Error) << "a symbolic link";
  EXPECT_TRUE(std::filesystem::is_symlink(path));
  std::filesystem::remove(path);

  // The file of a killed session of the same run is replaced.
  write_all(path, targets_json({"127.0.0.1:9000"}, "runs/a", "0a1b"));
  std::vector<std::string> messages;
  {
    const TargetsFile file(path, own, "0a1b", [&](const std::string& text) { messages.push_back(text); });
    EXPECT_EQ(read_all(path), own);
    write_all(path, "mine");
  }
  EXPECT_EQ(read_all(path), "mine");
  ASSERT_EQ(messages.size(), 1U);
  EXPECT_NE(messages[0].find("is not removed"), std::string::npos) << messages[0];
}

}  // namespace
}  // namespace tutti
