#pragma once

#include "launcher/launch/allocation.h"
#include "launcher/launch/child.h"
#include "launcher/launch/exit_status.h"
#include "launcher/launch/heartbeat.h"

#include <chrono>
#include <iosfwd>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// Which hosts of a launch have failed.
enum class HostFailure : uint8_t {
  kNone,
  kOtherHosts,
  kThisHost,  ///< this host is isolated: no other host answers
};

/// The failure when `lost` of the `known` other hosts are silent, and `silent_witnesses` of the `witnesses`,
/// machines without ranks. Without witnesses, all hosts silent at once, if more than one, means that the link
/// of this host has failed.
HostFailure classify_silence(int64_t lost, int64_t known, int64_t silent_witnesses, int64_t witnesses);

/// Detects hosts that fail while ranks run, by a heartbeat and by the messages of the program that started
/// the ranks, and ends that program, which otherwise waits for the lost hosts.
class HostFailureDetector {
 public:
  /// `witnesses`: machines without ranks, such as a scheduler's controller.
  HostFailureDetector(const std::vector<Host>& hosts, const std::vector<std::string>& witnesses,
                      std::string_view own, std::ostream& err);

  /// Ends `child` when a host is lost: after `grace_s`, in which it can end the ranks that it reaches, by
  /// SIGKILL.
  void check(Child& child, const FailureAttribution& attribution, double grace_s);
  [[nodiscard]] HostFailure failure() const { return failure_; }
  /// Lost hosts that the heartbeat found; empty if this host is isolated.
  [[nodiscard]] const std::vector<std::string>& hosts() const { return hosts_; }
  /// All that do not answer, for a message.
  [[nodiscard]] const std::vector<std::string>& silent() const { return silent_; }

 private:
  using Clock = std::chrono::steady_clock;
  void classify();

  Heartbeat heartbeat_;
  Heartbeat witness_heartbeat_;
  std::string own_;
  std::ostream& err_;
  HostFailure failure_ = HostFailure::kNone;
  std::vector<std::string> hosts_;
  std::vector<std::string> silent_;
  std::optional<Clock::time_point> first_silence_;
  std::optional<Clock::time_point> since_;
};

}  // namespace tutti
