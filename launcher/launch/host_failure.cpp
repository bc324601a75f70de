#include "launcher/launch/host_failure.h"

#include <tutti/core/error.h>

#include <csignal>
#include <ostream>

namespace tutti {
namespace {

/// Failures of several hosts at the same time are noticed within a second of each other.
constexpr std::chrono::milliseconds kSettle{1500};

std::vector<std::string> names(const std::vector<Host>& hosts) {
  std::vector<std::string> all;
  if (hosts.size() < 2) return all;
  all.reserve(hosts.size());
  for (const Host& host : hosts) all.push_back(host.name);
  return all;
}

}  // namespace

HostFailure classify_silence(int64_t lost, int64_t known, int64_t silent_witnesses, int64_t witnesses) {
  if (lost == 0) return HostFailure::kNone;
  if (lost < known) return HostFailure::kOtherHosts;
  const bool alone = witnesses > 0 ? silent_witnesses == witnesses : lost > 1;
  return alone ? HostFailure::kThisHost : HostFailure::kOtherHosts;
}

HostFailureDetector::HostFailureDetector(const std::vector<Host>& hosts,
                                         const std::vector<std::string>& witnesses, std::string_view own,
                                         std::ostream& err)
    : heartbeat_(names(hosts), own),
      witness_heartbeat_(hosts.size() < 2 ? std::vector<std::string>() : witnesses, own),
      own_(own),
      err_(err) {}

void HostFailureDetector::classify() {
  const std::vector<std::string> lost = heartbeat_.lost();
  const std::vector<std::string> witnesses = witness_heartbeat_.lost();
  failure_ = classify_silence(static_cast<int64_t>(lost.size()), heartbeat_.known(),
                              static_cast<int64_t>(witnesses.size()), witness_heartbeat_.known());
  silent_ = lost;
  if (failure_ == HostFailure::kOtherHosts) {
    hosts_ = lost;
    err_ << fmt::format("tutti: {} does not answer any more\n", fmt::join(hosts_, ", ")) << std::flush;
  } else if (failure_ == HostFailure::kThisHost) {
    silent_.insert(silent_.end(), witnesses.begin(), witnesses.end());
    err_ << fmt::format("tutti: {} is isolated: none of {} answers any more\n", own_,
                        fmt::join(silent_, ", "))
         << std::flush;
  }
}

void HostFailureDetector::check(Child& child, const FailureAttribution& attribution, double grace_s) {
  const auto now = Clock::now();
  if (failure_ == HostFailure::kNone) {
    // Both heartbeats need a call each time, or their answers would be late.
    const bool silent = !heartbeat_.lost().empty();
    (void)witness_heartbeat_.lost();
    if (!silent) first_silence_.reset();
    if (silent && !first_silence_) first_silence_ = now;
    if (silent && now >= *first_silence_ + kSettle) {
      classify();
      child.send(SIGTERM);
    }
  }
  if (failure_ == HostFailure::kNone && !attribution.saw_loss()) return;
  if (!since_) since_ = now;
  const std::chrono::duration<double> waited = now - *since_;
  if (waited.count() > grace_s) child.send(SIGKILL);
}

}  // namespace tutti
