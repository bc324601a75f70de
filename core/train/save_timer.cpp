#include <tutti/core/train/save_timer.h>

#include <algorithm>

namespace tutti {

bool SaveTimer::saved(double now_s, double took_s) {
  saved_at_s_ = now_s;
  interval_s_ = std::max(every_s_, took_s / kMostShare);
  const bool longer = every_s_ > 0 && interval_s_ > every_s_;
  const bool first = longer && !stretched_;
  stretched_ = stretched_ || longer;
  return first;
}

}  // namespace tutti
