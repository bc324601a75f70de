#include "core/memory/out_of_memory.h"
#include <tutti/core/error.h>

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <new>
#include <optional>
#include <string_view>

namespace tutti {
namespace {

/// The kilobytes after `key` in a file of /proc.
std::optional<int64_t> kilobytes(const char* path, std::string_view key) {
  std::array<char, 8192> buffer{};
  const int file = ::open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return std::nullopt;
  const ssize_t got = ::read(file, buffer.data(), buffer.size());
  (void)::close(file);
  if (got <= 0) return std::nullopt;
  const std::string_view text(buffer.data(), static_cast<size_t>(got));
  const size_t at = text.find(key);
  if (at == std::string_view::npos) return std::nullopt;
  const size_t digit = text.find_first_of("0123456789", at + key.size());
  if (digit == std::string_view::npos) return std::nullopt;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data() + digit, text.data() + text.size(), value);
  if (error != std::errc()) return std::nullopt;
  return value;
}

std::string mebibytes(int64_t kilobytes) {
  return fmt::format("{} MiB", kilobytes / 1024);
}

}  // namespace

std::string memory_summary() {
  std::string summary;
  const auto add = [&](std::string_view text) {
    if (!summary.empty()) summary += ", ";
    summary += text;
  };
  if (const auto resident = kilobytes("/proc/self/status", "VmRSS:")) {
    add(fmt::format("this process uses {}", mebibytes(*resident)));
  }
  rlimit limit{};
  if (::getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
    const auto size = kilobytes("/proc/self/status", "VmSize:");
    add(fmt::format("its address space is limited to {} (ulimit -v), in use {}",
                    mebibytes(static_cast<int64_t>(limit.rlim_cur / 1024)),
                    size ? mebibytes(*size) : "unknown"));
  }
  if (const auto left = kilobytes("/proc/meminfo", "MemAvailable:")) {
    add(fmt::format("the machine has {} available", mebibytes(*left)));
  }
  return summary;
}

std::string error_text(const std::exception& error) {
  if (dynamic_cast<const std::bad_array_new_length*>(&error) != nullptr) {
    return "out of memory: the requested size is too large for any machine";
  }
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return "out of memory: " + memory_summary();
  return error.what();
}

}  // namespace tutti
