#include "launcher/preflight/measure.h"

#include <tutti/core/error.h>
#include <tutti/core/io/file.h>
#include <tutti/core/tensor.h>
#include "comm/placement/placement.h"
#include "core/io/temporary.h"
#include "core/system_check.h"
#include "kernels/cpu/blas.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <optional>
#include <vector>

namespace tutti {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// Reads the file and compares it with repeated `block`s. Returns the seconds that it took.
double read_back(const fs::path& path, const std::vector<std::byte>& block) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  require_system(file >= 0, "{}", path.string());
  const std::unique_ptr<const int, void (*)(const int*)> closer(&file, [](const int* f) { (void)close(*f); });
  (void)posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
  std::vector<std::byte> buffer(block.size());
  const auto begin = Clock::now();
  double compare_s = 0;
  while (true) {
    size_t filled = 0;
    while (filled < buffer.size()) {
      const ssize_t n = read(file, buffer.data() + filled, buffer.size() - filled);
      require_system(n >= 0 || errno == EINTR, "{}", path.string());
      if (n == 0) break;
      if (n > 0) filled += static_cast<size_t>(n);
    }
    if (filled == 0) break;
    const auto compared = Clock::now();
    require(std::equal(buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(filled), block.begin()),
            "{}: data that was read differs from data that was written", path.parent_path().string());
    compare_s += seconds_since(compared);
  }
  return std::max(1e-9, seconds_since(begin) - compare_s);
}

}  // namespace

double sustained_s(double seconds, const std::function<void()>& work) {
  work();  // page faults and initialisation of libraries
  const auto begin = Clock::now();
  int64_t times = 0;
  while (times < 2 || seconds_since(begin) < seconds) {
    work();
    ++times;
  }
  return std::max(1e-9, seconds_since(begin)) / static_cast<double>(times);
}

double measure_gemm(const Stream& stream, int64_t size, double seconds) {
  const Tensor a = Tensor::full({size, size}, 0.5, DType::kFloat32, stream);
  const Tensor b = Tensor::full({size, size}, 0.25, DType::kFloat32, stream);
  const Tensor c = Tensor::zeros({size, size}, DType::kFloat32, stream);
  const Gemm product{.m = size,
                     .n = size,
                     .k = size,
                     .a = {.data = a.raw(), .ld = size},
                     .b = {.data = b.raw(), .ld = size},
                     .c = c.raw(),
                     .ldc = size};
  const double each_s = sustained_s(seconds, [&] { cpu::gemm(product, stream); });
  const float expected = 0.125F * static_cast<float>(size);
  require(c.span<float>().back() == expected,
          "a matrix product gives {} instead of {}: this CPU gives wrong results", c.span<float>().back(),
          expected);
  const auto n = static_cast<double>(size);
  return 2 * n * n * n / each_s;
}

double measure_memory(const Stream& stream, int64_t bytes, double seconds) {
  const int64_t n = bytes / static_cast<int64_t>(sizeof(float));
  constexpr int64_t kGrain = int64_t{1} << 16;
  const Tensor a = Tensor::empty({n}, DType::kFloat32, stream);
  const Tensor b = Tensor::full({n}, 1, DType::kFloat32, stream);
  const Tensor c = Tensor::full({n}, 2, DType::kFloat32, stream);
  float* const to = a.data<float>();
  const float* const x = b.data<float>();
  const float* const y = c.data<float>();
  const double each_s = sustained_s(seconds, [&] {
    stream.pool().parallel_ranges(n, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) to[i] = x[i] + 3 * y[i];
    });
  });
  require(to[n - 1] == 7, "memory gives {} instead of 7", to[n - 1]);
  return 3 * static_cast<double>(n) * sizeof(float) / each_s;
}

DiskSpeed measure_disk(const fs::path& directory, int64_t bytes, double most_s) {
  DiskSpeed speed;
  try {
    std::error_code error;
    const bool is_new = fs::create_directories(directory, error);
    require(!error, "{}: cannot be created: {}", directory.string(), error.message());
    struct statvfs space {};
    require_system(statvfs(directory.c_str(), &space) == 0, "{}", directory.string());
    speed.free_bytes = static_cast<int64_t>(space.f_bavail) * static_cast<int64_t>(space.f_frsize);
    // Both are removed at the end, the directory if it was created here and is empty.
    std::optional<TemporaryPath> made;
    if (is_new) made.emplace(directory, TemporaryPath::Kind::kDirectory);
    const TemporaryPath scratch(directory / fmt::format(".preflight-{}-{}", host_name(), getpid()));
    constexpr size_t kBlock = size_t{1} << 20;
    std::vector<std::byte> block(kBlock);
    // Bytes that neither compress nor repeat within a block.
    uint64_t state = 0x9E3779B97F4A7C15U;
    for (std::byte& byte : block) {
      state ^= state << 13U;
      state ^= state >> 7U;
      state ^= state << 17U;
      byte = static_cast<std::byte>(state & 0xFFU);
    }
    constexpr int64_t kGrowth = 8;
    for (int64_t size = int64_t{4} << 20;; size *= kGrowth) {
      const auto begin = Clock::now();
      OutputFile file(scratch.path());
      for (int64_t written = 0; written < std::min(size, bytes); written += static_cast<int64_t>(kBlock)) {
        file.write(block);
      }
      file.finish();
      const double took = std::max(1e-9, seconds_since(begin));
      speed.write_bytes_per_s = static_cast<double>(file.bytes()) / took;
      if (size >= bytes || took * kGrowth > most_s) break;
    }
    speed.read_bytes_per_s =
        static_cast<double>(fs::file_size(scratch.path())) / read_back(scratch.path(), block);
  } catch (const Error& problem) {
    speed.error = problem.what();
  }
  return speed;
}

}  // namespace tutti
