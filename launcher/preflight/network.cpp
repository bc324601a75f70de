#include "launcher/preflight/network.h"

#include <algorithm>
#include <chrono>
#include <optional>

namespace tutti {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRoundTrips = 10;
// Of large messages.
constexpr int64_t kFirstBytes = int64_t{64} << 10;
constexpr int64_t kGrowth = 8;

double elapsed_s(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// Half of the shortest round trip of `message`, as measured by the rank that begins.
double one_way_s(Collective& world, const Tensor& message, int other, int times, bool begins,
                 const Stream& stream) {
  double best = 0;
  for (int i = 0; i < times; ++i) {
    const auto start = Clock::now();
    if (begins) {
      world.send(message, other, stream);
      world.recv(message, other, stream);
    } else {
      world.recv(message, other, stream);
      world.send(message, other, stream);
    }
    const double took = std::max(1e-9, elapsed_s(start) / 2);
    best = i == 0 ? took : std::min(best, took);
  }
  return best;
}

double unix_time_s() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

std::vector<std::vector<std::pair<int, int>>> tournament(int n) {
  const int seats = n + n % 2;  // with an odd n, one player has no partner
  std::vector<std::vector<std::pair<int, int>>> rounds;
  for (int round = 0; round + 1 < seats; ++round) {
    std::vector<std::pair<int, int>> pairs;
    pairs.reserve(static_cast<size_t>(seats / 2));
    // The last seat is fixed, the others rotate.
    const auto at = [&](int seat) { return (seat + round) % (seats - 1); };
    for (int i = 0; i < seats / 2; ++i) {
      const int a = i == 0 ? seats - 1 : at(i);
      const int b = i == 0 ? at(0) : at(seats - 1 - i);
      if (a < n && b < n) pairs.emplace_back(std::min(a, b), std::max(a, b));
    }
    rounds.push_back(std::move(pairs));
  }
  return rounds;
}

std::vector<PairReport> measure_pairs(Collective& world, std::span<const int> players,
                                      const PairOptions& options, const Stream& stream) {
  const Tensor small = Tensor::zeros({1}, DType::kFloat64, stream);
  const Tensor word = Tensor::zeros({1}, DType::kFloat64, stream);
  const Tensor large = Tensor::zeros({options.bytes}, DType::kUInt8, stream);
  double& yes = *word.data<double>();
  const auto begin = Clock::now();
  std::vector<PairReport> reports;
  for (const auto& pairs : tournament(static_cast<int>(players.size()))) {
    yes = elapsed_s(begin) < options.most_s ? 1 : 0;
    world.broadcast(word, 0, stream);
    if (yes == 0) break;
    world.barrier(stream);
    for (const auto& [first, second] : pairs) {
      const int low = players[static_cast<size_t>(first)];
      const int high = players[static_cast<size_t>(second)];
      if (world.rank() != low && world.rank() != high) continue;
      const bool begins = world.rank() == low;
      const int other = begins ? high : low;
      const double latency = one_way_s(world, small, other, options.small_messages, begins, stream);
      // Increasing sizes, so that a slow link is detected by small messages.
      int64_t bytes = std::min(kFirstBytes, options.bytes);
      double large_s = 0;
      for (;; bytes = std::min(bytes * kGrowth, options.bytes)) {
        const Tensor message = large.slice(0, 0, bytes);
        large_s = one_way_s(world, message, other, options.large_messages, begins, stream);
        yes = bytes < options.bytes && 2 * options.large_messages * kGrowth * large_s < options.most_s / 10
                  ? 1
                  : 0;
        if (begins)
          world.send(word, other, stream);
        else
          world.recv(word, other, stream);
        if (yes == 0) break;
      }
      if (!begins) continue;
      reports.push_back({.rank = low,
                         .other = high,
                         .latency_s = latency,
                         .bytes_per_s = static_cast<double>(bytes) / large_s});
    }
  }
  return reports;
}

std::vector<ClockReport> measure_clocks(Collective& world, std::span<const int> players,
                                        const Stream& stream) {
  const Tensor time = Tensor::zeros({1}, DType::kFloat64, stream);
  double* const value = time.data<double>();
  std::vector<ClockReport> reports;
  for (const int player : players) {
    if (player == 0 || (world.rank() != 0 && world.rank() != player)) continue;
    std::optional<ClockReport> best;
    for (int i = 0; i < kRoundTrips; ++i) {
      if (world.rank() == player) {
        world.recv(time, 0, stream);
        *value = unix_time_s();
        world.send(time, 0, stream);
        continue;
      }
      const double before = unix_time_s();
      const auto start = Clock::now();
      world.send(time, player, stream);
      world.recv(time, player, stream);
      const double half = elapsed_s(start) / 2;
      if (best && half >= best->uncertainty_s) continue;
      best = ClockReport{.rank = player, .offset_s = *value - (before + half), .uncertainty_s = half};
    }
    if (best) reports.push_back(*best);
  }
  return reports;
}

}  // namespace tutti
