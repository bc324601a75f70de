#pragma once

#include "launcher/launch/allocation.h"
#include "launcher/launch/child.h"
#include "launcher/launch/ending.h"
#include "launcher/launch/host_watch.h"

#include <chrono>
#include <iosfwd>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// What a watch over the hosts of a launch has to say.
enum class LossVerdict : uint8_t {
  kNone,
  kOthers,  ///< hosts are gone
  kSelf,    ///< this host is the one that is cut off: nobody that it asked answers
};

/// The verdict when `lost` of the `known` other hosts are silent, and of the `witnesses`, machines that take
/// no part, `silent_witnesses`. Without a witness two hosts that go away at once are believed to be none: the
/// link that they share is this host's.
LossVerdict judge_losses(int64_t lost, int64_t known, int64_t silent_witnesses, int64_t witnesses);

/// Hosts that go away while ranks run: the program that started the ranks names them, or a watch notices.
/// That program then waits for answers that cannot come.
class Losses {
 public:
  /// `witnesses`: machines that take no part, such as a scheduler's controller.
  Losses(const std::vector<Host>& hosts, const std::vector<std::string>& witnesses, std::string_view own,
         std::ostream& err);

  /// Ends `child` when a host is lost: it has `patience_s` to end the ranks that it reaches.
  void tend(Child& child, const Blame& blame, double patience_s);
  [[nodiscard]] LossVerdict verdict() const { return verdict_; }
  /// As the watch found them; none if this host is the one that is cut off.
  [[nodiscard]] const std::vector<std::string>& hosts() const { return hosts_; }
  /// All that were asked in vain, for a message.
  [[nodiscard]] const std::vector<std::string>& silent() const { return silent_; }

 private:
  using Clock = std::chrono::steady_clock;
  void decide();

  HostWatch hosts_watch_;
  HostWatch witnesses_watch_;
  std::string own_;
  std::ostream& err_;
  LossVerdict verdict_ = LossVerdict::kNone;
  std::vector<std::string> hosts_;
  std::vector<std::string> silent_;
  std::optional<Clock::time_point> first_silence_;
  std::optional<Clock::time_point> since_;
};

}  // namespace tutti
