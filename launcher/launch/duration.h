#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tutti {

/// Seconds of "90s", "45m", "2h", "1d12h", "1:30:00" (hours first) or "2-00:00:00" (days first). A number
/// without a unit is refused: schedulers disagree on whether it counts minutes or seconds. Throws Error.
int64_t parse_duration_s(std::string_view text);

/// "02:00:00", and with days "2-00:00:00" as Slurm takes it.
std::string clock_text_with_days(int64_t seconds);

/// "02:00:00" with as many hours as it takes, as PBS takes it.
std::string clock_text(int64_t seconds);

}  // namespace tutti
