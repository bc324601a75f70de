#include <tutti/comm/factory.h>
#include "kernels/cpu/blas.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <random>
#include <thread>
#include <vector>

namespace tutti {
namespace {

std::atomic<int> taken = 0;

void take(int /*number*/) {
  ++taken;
}

/// Sends SIGUSR1 to this process continuously.
class Fire {
 public:
  Fire() {
    struct sigaction action {};
    action.sa_handler = &take;
    EXPECT_EQ(sigaction(SIGUSR1, &action, &before_), 0);
    thread_ = std::thread([this] {
      while (!done_) {
        EXPECT_EQ(kill(getpid(), SIGUSR1), 0);
        std::this_thread::sleep_for(std::chrono::microseconds(50));
      }
    });
  }
  ~Fire() {
    done_ = true;
    thread_.join();
    EXPECT_EQ(sigaction(SIGUSR1, &before_, nullptr), 0);
  }
  Fire(const Fire&) = delete;
  Fire& operator=(const Fire&) = delete;

 private:
  struct sigaction before_ {};
  std::atomic<bool> done_ = false;
  std::thread thread_;
};

// A signal that interrupts a product of oneDNN on the same thread corrupts the heap or the product.
TEST(Signals, ProductsAreCorrectDuringSignals) {
  constexpr int64_t kRows = 512;
  constexpr int64_t kColumns = 768;
  constexpr int64_t kInner = 192;
  std::mt19937 random(std::random_device{}());
  std::normal_distribution<float> normal;
  std::vector<float> a(kRows * kInner);
  std::vector<float> b(kColumns * kInner);
  for (float& x : a) x = normal(random);
  for (float& x : b) x = normal(random);
  run_world({.backend = "self"}, [&](Collective&) {
    const auto product = [&] {
      std::vector<float> c(kRows * kColumns);
      cpu::gemm_tile({.m = kRows,
                      .n = kColumns,
                      .k = kInner,
                      .dtype = DType::kFloat32,
                      .a = {a.data(), kInner},
                      .b = {b.data(), kInner, true},
                      .c = c.data(),
                      .ldc = kColumns,
                      .c_dtype = DType::kFloat32});
      return c;
    };
    const std::vector<float> expected = product();
    const Fire fire;
    const int before = taken;
    for (int i = 0; i < 100; ++i) ASSERT_EQ(product(), expected);
    while (taken < before + 100) std::this_thread::yield();
  });
}

}  // namespace
}  // namespace tutti
