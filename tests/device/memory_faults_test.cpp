// Faults in the use of Tutti's device memory that the software device must find.
#include <tutti/core/tensor.h>
#include "core/cuda/device.h"
#include "core/cuda/graph.h"
#include "core/cuda/launch.h"
#include "tests/device/sanitizer.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <ostream>
#include <string>
#include <utility>

namespace tutti {
namespace {

__global__ void store_zero(float* to, int64_t n) {
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) to[i] = 0;
}

void store(const Tensor& x, int64_t n, const Stream& stream) {
  cuda::launch("store_zero", stream, {1, 32}, store_zero, x.data<float>(), n);
}

/// The output of a death test. Not a regular expression: Oniguruma has functions of the same names as the C
/// library's.
class Says {
 public:
  using is_gtest_matcher = void;
  explicit Says(std::string text) : text_(std::move(text)) {}
  bool MatchAndExplain(const std::string& output,
                       std::ostream*) const {  // NOLINT(readability-identifier-naming)
    return output.find(text_) != std::string::npos;
  }
  void DescribeTo(std::ostream* out) const {
    *out << "says: " << text_;
  }  // NOLINT(readability-identifier-naming)
  void DescribeNegationTo(std::ostream* out) const {
    *out << "does not say: " << text_;
  }  // NOLINT(readability-identifier-naming)

 private:
  std::string text_;
};
testing::Matcher<const std::string&> says(std::string text) {
  return Says(std::move(text));
}

class MemoryFaults : public testing::Test {
 protected:
  void SetUp() override {
    if (cuda::device_count() == 0) GTEST_SKIP() << "no GPU: " << cuda::why_no_device();
    GTEST_FLAG_SET(death_test_style, "threadsafe");
  }
};

TEST_F(MemoryFaults, ReuseWhileAnotherStreamWritesIsFound) {
#if defined(__clang__)
  const auto reuse = [](bool told) {
    const Stream stream = Stream::cuda(0);
    const Stream other = Stream::cuda(0);
    Tensor x = Tensor::zeros({1000}, DType::kFloat32, stream);
    other.wait(stream.record());
    store(x, 1000, other);
    if (told) x.record_use(other);
    x = Tensor();
    store(Tensor::empty({1000}, DType::kFloat32, stream), 1000, stream);
    stream.synchronize();
    other.synchronize();
  };
  reuse(true);
  EXPECT_DEATH(reuse(false), says("a race at"));
#else
  GTEST_SKIP() << "this compiler does not report accesses";
#endif
}

TEST_F(MemoryFaults, AnElementPastTheEndOfATensorIsFound) {
#if defined(__SANITIZE_ADDRESS__)
  const auto write = [](int64_t n) {
    const Stream stream = Stream::cuda(0);
    store(Tensor::empty({1000}, DType::kFloat32, stream), n, stream);
    stream.synchronize();
  };
  // In a process of its own, which has not allocated memory before.
  EXPECT_DEATH(
      {
        (void)setenv("TUTTI_MEMORY_CACHE", "off", 1);
        write(1001);
      },
      says("AddressSanitizer"));
  write(1000);
#else
  GTEST_SKIP() << "only the address sanitizer knows where a tensor ends within a page";
#endif
}

TEST_F(MemoryFaults, AReplayThatUsesReleasedMemoryIsFound) {
  const auto replay = [](bool keep) {
    const Stream stream = Stream::cuda(0);
    Tensor x = Tensor::zeros({1 << 20}, DType::kFloat32, stream);
    const auto graph = cuda::Graph::capture(stream, [&] { store(x, 1000, stream); });
    if (!keep) x = Tensor();
    cuda::release_cached_memory(0);
    graph->launch();
    stream.synchronize();
  };
  replay(true);
  EXPECT_DEATH(replay(false), says("memory of a device that is not allocated by kernel"));
}

}  // namespace
}  // namespace tutti
