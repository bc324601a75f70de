#pragma once

#include <tutti/core/stream.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace tutti {

/// The mean of the seconds that `work` takes over `seconds`, and at least twice, after a warm-up. The mean,
/// because the minimum would hide pauses of a process, such as those of a quota of CPU time.
double sustained_s(double seconds, const std::function<void()>& work);

/// The sustained rate of fp32 matrix products (size^3) on the stream's threads, in floating-point operations
/// per second; repeats for `seconds`, at least twice.
double measure_gemm(const Stream& stream, int64_t size, double seconds);

/// The sustained memory bandwidth of a = b + s c on three arrays of `bytes` each, in bytes read and written
/// per second. Source: McCalpin 1995, STREAM's triad.
double measure_memory(const Stream& stream, int64_t bytes, double seconds);

/// The storage of a directory.
struct DiskSpeed {
  std::string error;  ///< why it cannot be used; empty: it can
  int64_t free_bytes = 0;
  double write_bytes_per_s = 0;  ///< with fsync
  double read_bytes_per_s =
      0;  ///< after a request to drop the file from the cache, which is not always granted
};

/// Writes a file of `bytes` into `directory`, or a smaller one if that would take longer than `most_s`, reads
/// it back, compares it and removes it. Creates the directory if needed, and removes it if it is still
/// empty.
DiskSpeed measure_disk(const std::filesystem::path& directory, int64_t bytes, double most_s = 10);

}  // namespace tutti
