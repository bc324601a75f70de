#pragma once

#include <cstdint>

namespace tutti {

/// Determines when a checkpoint is due by time. Saves take at most kMostShare of the time: if one takes long,
/// the interval becomes longer.
class SaveTimer {
 public:
  static constexpr double kMostShare = 0.05;

  /// `every_s` seconds between saves; 0 for none by time. `now_s` is any clock's time.
  SaveTimer(double every_s, double now_s) : every_s_(every_s), interval_s_(every_s), saved_at_s_(now_s) {}

  /// Whether a save is due that would otherwise wait for `ahead_s` more seconds, as for an evaluation.
  [[nodiscard]] bool due(double now_s, double ahead_s = 0) const {
    return every_s_ > 0 && now_s - saved_at_s_ + ahead_s >= interval_s_;
  }
  /// Records a save that ended at `now_s` and took `took_s`. Returns true the first time that the interval is
  /// longer than requested.
  bool saved(double now_s, double took_s);

  /// Current interval between saves.
  [[nodiscard]] double interval_s() const { return interval_s_; }

 private:
  double every_s_;
  double interval_s_;
  double saved_at_s_;
  bool stretched_ = false;
};

}  // namespace tutti
