#include "launcher/launch/losses.h"

#include <tutti/core/error.h>

#include <csignal>
#include <ostream>

namespace tutti {
namespace {

/// Machines that fall silent together are asked in turn, a second apart.
constexpr std::chrono::milliseconds kSettle{1500};

std::vector<std::string> names(const std::vector<Host>& hosts) {
  std::vector<std::string> all;
  if (hosts.size() < 2) return all;
  all.reserve(hosts.size());
  for (const Host& host : hosts) all.push_back(host.name);
  return all;
}

}  // namespace

LossVerdict judge_losses(int64_t lost, int64_t known, int64_t silent_witnesses, int64_t witnesses) {
  if (lost == 0) return LossVerdict::kNone;
  if (lost < known) return LossVerdict::kOthers;
  const bool alone = witnesses > 0 ? silent_witnesses == witnesses : lost > 1;
  return alone ? LossVerdict::kSelf : LossVerdict::kOthers;
}

Losses::Losses(const std::vector<Host>& hosts, const std::vector<std::string>& witnesses,
               std::string_view own, std::ostream& err)
    : hosts_watch_(names(hosts), own),
      witnesses_watch_(hosts.size() < 2 ? std::vector<std::string>() : witnesses, own),
      own_(own),
      err_(err) {}

void Losses::decide() {
  const std::vector<std::string> lost = hosts_watch_.lost();
  const std::vector<std::string> witnesses = witnesses_watch_.lost();
  verdict_ = judge_losses(static_cast<int64_t>(lost.size()), hosts_watch_.known(),
                          static_cast<int64_t>(witnesses.size()), witnesses_watch_.known());
  silent_ = lost;
  if (verdict_ == LossVerdict::kOthers) {
    hosts_ = lost;
    err_ << fmt::format("tutti: {} does not answer any more\n", fmt::join(hosts_, ", ")) << std::flush;
  } else if (verdict_ == LossVerdict::kSelf) {
    silent_.insert(silent_.end(), witnesses.begin(), witnesses.end());
    err_ << fmt::format("tutti: {} is cut off: neither of {} answers any more\n", own_,
                        fmt::join(silent_, ", "))
         << std::flush;
  }
}

void Losses::tend(Child& child, const Blame& blame, double patience_s) {
  const auto now = Clock::now();
  if (verdict_ == LossVerdict::kNone) {
    // Both are asked on every call, or their answers would be late.
    const bool silent = !hosts_watch_.lost().empty();
    (void)witnesses_watch_.lost();
    if (!silent) first_silence_.reset();
    if (silent && !first_silence_) first_silence_ = now;
    if (silent && now >= *first_silence_ + kSettle) {
      decide();
      child.send(SIGTERM);
    }
  }
  if (verdict_ == LossVerdict::kNone && !blame.saw_loss()) return;
  if (!since_) since_ = now;
  const std::chrono::duration<double> waited = now - *since_;
  if (waited.count() > patience_s) child.send(SIGKILL);
}

}  // namespace tutti
