#pragma once

#include <cstdint>
#include <string>

namespace tutti {

/// "512 B", "1.5 KiB", "23.0 GiB".
std::string bytes_text(int64_t bytes);
/// Three digits and a suffix: "0", "12.3", "123", "12.3k", "1.23M". "?" unless finite.
std::string count_text(double count);
/// "0:07", "4:12", "1:02:03", "3 d 4 h". "?" unless finite and not negative.
std::string duration_text(double seconds);

}  // namespace tutti
