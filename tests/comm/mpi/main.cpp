// Runs the tests of comm on this process's MPI world. Rank 0 prints the report, others only failures.
#include "tests/comm/ranks.h"

#include <tutti/comm/factory.h>
#include "comm/device_collective.h"
#include "core/cuda/device.h"

#include <cstdlib>

namespace tutti::test {
namespace {

class FailuresOnly final : public testing::EmptyTestEventListener {
 public:
  explicit FailuresOnly(int rank) : rank_(rank) {}
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    (void)std::fprintf(stderr, "rank %d: %s:%d: %s\n", rank_, result.file_name(), result.line_number(),
                       result.message());
  }

 private:
  int rank_;
};

/// Runs the tests on the first GPU with the backend in TUTTI_TEST_DEVICE_BACKEND; nullptr without the
/// variable.
std::unique_ptr<Collective> on_device(Collective& world) {
  const char* const backend = std::getenv("TUTTI_TEST_DEVICE_BACKEND");
  if (backend == nullptr) return nullptr;
  test_device() = {DeviceType::kCuda, 0};
  return make_device_collective(world, Stream::cuda(0), {.backend = backend, .timeout_s = 120});
}

int run_all(Collective& control) {
  const std::unique_ptr<Collective> device = on_device(control);
  Collective& world = device != nullptr ? *device : control;
  auto& listeners = testing::UnitTest::GetInstance()->listeners();
  if (world.rank() > 0) {
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new FailuresOnly(world.rank()));
  }
  ranks_provider() = [&world](const Body& body) {
    try {
      body(world);
    } catch (const std::exception& error) {
      // The others would wait for this rank forever.
      world.abort(error.what());
    }
  };
  const RankStream compute;
  const Tensor failed = Tensor::full({1}, RUN_ALL_TESTS(), DType::kInt32, compute.stream);
  world.all_reduce(failed, Reduce::kMax, compute.stream);
  return static_cast<int>(failed.item());
}

}  // namespace
}  // namespace tutti::test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if constexpr (tutti::kWithCuda) {
    if (std::getenv("TUTTI_TEST_DEVICE_BACKEND") != nullptr && tutti::cuda::device_count() == 0) {
      (void)std::fprintf(stderr, "no GPU: %s\n", tutti::cuda::why_no_device().c_str());
      return 0;
    }
  }
  const char* node = std::getenv("TUTTI_TEST_RANKS_PER_NODE");
  const tutti::WorldConfig config{.backend = "mpi", .ranks_per_node = node == nullptr ? 0 : std::atoi(node)};
  int failed = 1;
  tutti::run_world(config, [&](tutti::Collective& world) { failed = tutti::test::run_all(world); });
  return failed;
}
