#pragma once

#include <tutti/comm/collective.h>
#include "launcher/preflight/report.h"

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace tutti {

/// The rounds of a round-robin tournament: each of n players is paired with each other one once, and is in at
/// most one pair per round. n - 1 rounds, or n rounds with one player unpaired if n is odd. Source: the
/// circle method, Kirkman 1847.
std::vector<std::vector<std::pair<int, int>>> tournament(int n);

struct PairOptions {
  int64_t bytes = int64_t{4} << 20;  ///< of a large message
  int small_messages = 20;
  int large_messages = 3;
  double most_s = 20;  ///< no further round begins after that; large messages are smaller if they would
                       ///< take a tenth of it
};

/// Measures latency and bandwidth between the ranks `players`, all pairs of a round at the same time. All
/// ranks of the world call it with the same arguments; each returns the pairs in which it is the lower rank.
std::vector<PairReport> measure_pairs(Collective& world, std::span<const int> players,
                                      const PairOptions& options, const Stream& stream);

/// The offsets of the clocks of `players` from rank 0's, from the shortest of some round trips. All ranks
/// call it; rank 0 returns the reports, the others none. Source: Cristian 1989.
std::vector<ClockReport> measure_clocks(Collective& world, std::span<const int> players,
                                        const Stream& stream);

}  // namespace tutti
