#include <tutti/core/train/rank_poll.h>
#include "core/memory/out_of_memory.h"

#include <algorithm>
#include <exception>

namespace tutti {
namespace {

constexpr double kPollInterval_s = 0.1;

}  // namespace

bool RankPoll::stop_requested() {
  stop_ = stop_ || (stop_requested_ && stop_requested_());
  return stop_;
}

void RankPoll::attempt(FunctionRef<void()> work) {
  if (failed_ || stop_requested()) return;
  try {
    work();
  } catch (const std::exception& error) {
    failed_ = true;
    problem_ = error_text(error);
  }
}

bool RankPoll::wait_for(BatchSource& source) {
  while (!source.wait(kPollInterval_s)) {
    if (stop_requested()) return false;
  }
  return true;
}

PollResult RankPoll::agree(double seconds) {
  Peers& peers = parallel_.peers();
  PollResult result;
  std::vector<std::vector<double>> rows(parallel_.shards(0).size(), {0.0, 0.0, 0.0});
  rows.front() = {stop_requested() ? 1.0 : 0.0, failed_ ? 1.0 : 0.0, peers.rank() == 0 ? seconds : 0.0};
  const std::vector<double> sums = parallel_.sum(rows);
  result.stop = sums[0] > 0;
  result.seconds = sums[2];
  if (sums[1] == 0) return result;
  const std::vector<std::string> all = peers.all_gather((failed_ ? "-" : "+") + problem_);
  const auto first =
      std::find_if(all.begin(), all.end(), [](const std::string& text) { return text.front() == '-'; });
  const std::string where = peers.size() > 1 ? fmt::format("rank {}: ", first - all.begin()) : "";
  result.problem = where + first->substr(1);
  return result;
}

int64_t pieces_between_polls(int64_t pieces, double seconds) {
  const double factor = std::min(2.0, kPollInterval_s / std::max(seconds, 1e-9));
  return std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(pieces) * factor));
}

}  // namespace tutti
