// The software device itself: what it must find, and the order in which it runs.
#include "cublasLt.h"
#include "cuda_runtime.h"
#include "nccl.h"
#include "tests/device/sanitizer.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace {

#if defined(__clang__)
constexpr bool kReported = true;
#else
constexpr bool kReported = false;
#endif

class SoftwareDevice : public testing::Test {
 protected:
  void SetUp() override {
    // Each test that ends the process does so in a process of its own, as the device has a thread.
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    ASSERT_EQ(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, 0), cudaSuccess);
    ASSERT_EQ(cudaStreamCreateWithPriority(&other_, cudaStreamNonBlocking, 0), cudaSuccess);
  }
  void TearDown() override {
    EXPECT_EQ(cudaStreamDestroy(stream_), cudaSuccess);
    EXPECT_EQ(cudaStreamDestroy(other_), cudaSuccess);
  }

  static int* memory(size_t count) {
    void* made = nullptr;
    EXPECT_EQ(cudaMalloc(&made, count * sizeof(int)), cudaSuccess);
    return static_cast<int*>(made);
  }
  static int* pinned(size_t count) {
    void* made = nullptr;
    EXPECT_EQ(cudaHostAlloc(&made, count * sizeof(int), cudaHostAllocDefault), cudaSuccess);
    return static_cast<int*>(made);
  }
  static cudaEvent_t event() {
    cudaEvent_t made = nullptr;
    EXPECT_EQ(cudaEventCreate(&made), cudaSuccess);
    return made;
  }

  template <class... Parameters, class... Arguments>
  static void run(cudaStream_t stream, dim3 blocks, dim3 threads, void (*kernel)(Parameters...),
                  Arguments... arguments) {
    const cudaLaunchConfig_t config{blocks, threads, 0, stream};
    ASSERT_EQ(cudaLaunchKernelEx(&config, kernel, arguments...), cudaSuccess);
  }
  /// What ends the process does so before this returns.
  template <class Work>
  void finish(Work work) {
    work();
    (void)cudaStreamSynchronize(stream_);
    (void)cudaStreamSynchronize(other_);
  }
  std::vector<int> contents(const int* from, size_t count) {
    std::vector<int> all(count);
    EXPECT_EQ(cudaMemcpyAsync(all.data(), from, count * sizeof(int), cudaMemcpyDefault, stream_),
              cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    return all;
  }

  cudaStream_t stream_ = nullptr;
  cudaStream_t other_ = nullptr;
};

__global__ void store_index(int* to) {
  to[blockIdx.x * blockDim.x + threadIdx.x] = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
}

__global__ void set_to(int* to, int value) {
  *to = value;
}

__global__ void reverse_block(int* values) {
  __shared__ int kept[256];
  kept[threadIdx.x] = values[threadIdx.x];
  __syncthreads();
  values[threadIdx.x] = kept[blockDim.x - 1 - threadIdx.x];
}

__global__ void reverse_block_too_early(int* values) {
  __shared__ int kept[256];
  kept[threadIdx.x] = values[threadIdx.x];
  values[threadIdx.x] = kept[blockDim.x - 1 - threadIdx.x];
}

__global__ void store_bytes(char* to) {
  to[threadIdx.x] = static_cast<char>(threadIdx.x);
}

// With a distance beyond the warp, another one reads.
__global__ void shift_in_warps(int* values, unsigned warp) {
  values[threadIdx.x] = 1;
  __syncwarp();
  if (threadIdx.x + 1 < warp) values[threadIdx.x + 64] = values[threadIdx.x + 1];
}

__global__ void largest(int* values, bool stores) {
  auto* const most = reinterpret_cast<unsigned*>(values);
  const unsigned mine = blockIdx.x * blockDim.x + threadIdx.x;
  if (mine > __ldcv(most)) atomicMax(most, mine);
  if (stores && threadIdx.x == 40) *most = 0;
}

// Without a word to the race detector.
TUTTI_UNREPORTED __global__ void set_unreported(int* to, int value) {
  *to = value;
}

__global__ void sum_warp(int* values) {
  int sum = values[threadIdx.x];
  for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffU, sum, distance);
  values[threadIdx.x] = sum;
}

__global__ void half_a_warp_exchanges(int* values) {
  if (threadIdx.x < 16) values[threadIdx.x] = __shfl_xor_sync(0xffffffffU, values[threadIdx.x], 1);
}

__global__ void one_thread_skips_the_barrier(int* values) {
  if (threadIdx.x == 0) {
    values[0] = __shfl_xor_sync(0xffffffffU, values[0], 1);
  } else {
    __syncthreads();
  }
}

TEST_F(SoftwareDevice, RunsGrids) {
  int* const values = memory(256 * 3);
  run(stream_, 3, 256, store_index, values);
  const std::vector<int> all = contents(values, 256 * 3);
  for (int i = 0; i < 256 * 3; ++i) ASSERT_EQ(all[static_cast<size_t>(i)], i);
  run(stream_, 1, 256, reverse_block, values);
  EXPECT_EQ(contents(values, 256)[3], 252);
  run(stream_, 1, 32, store_index, values);
  run(stream_, 1, 32, sum_warp, values);
  EXPECT_EQ(contents(values, 32), std::vector<int>(32, 31 * 32 / 2));
  EXPECT_EQ(cudaFree(values), cudaSuccess);
}

// Two threads, one of them writing, without a barrier between them.
TEST_F(SoftwareDevice, RacesWithinAKernelAreFound) {
  if (!kReported) GTEST_SKIP() << "this compiler does not report accesses";
  int* const values = memory(1024);
  run(stream_, 2, 256, store_index, values);
  EXPECT_DEATH(finish([&] { run(stream_, 1, 256, reverse_block_too_early, values); }),
               "a race at .*reverse_block_too_early.*reverse_block_too_early");
  EXPECT_DEATH(finish([&] { run(stream_, 2, 1, set_to, values, 1); }),
               "written by .*set_to.*, block [01], thread 0");
  EXPECT_DEATH(finish([&] { run(stream_, 1, 64, shift_in_warps, values, 33); }), "a race");
  EXPECT_DEATH(finish([&] { run(stream_, 1, 64, largest, values, true); }), "updated by .*largest");
  // Neighbours in a word, warps in step, and atomic operations are none.
  run(stream_, 1, 256, store_bytes, reinterpret_cast<char*>(values));
  run(stream_, 1, 64, shift_in_warps, values, 32);
  run(stream_, 8, 64, largest, values, false);
  EXPECT_EQ(contents(values, 1)[0] & 0xffff, 8 * 64 - 1);
  EXPECT_EQ(cudaFree(values), cudaSuccess);
}

TEST_F(SoftwareDevice, RacesBetweenStreamsAreFound) {
  if (!kReported) GTEST_SKIP() << "this compiler does not report accesses";
  int* const value = memory(1);
  const cudaEvent_t between = event();
  const auto write_in_two_streams = [&](bool ordered) {
    run(stream_, 1, 1, set_to, value, 1);
    if (ordered) {
      ASSERT_EQ(cudaEventRecord(between, stream_), cudaSuccess);
      ASSERT_EQ(cudaStreamWaitEvent(other_, between, 0), cudaSuccess);
    }
    run(other_, 1, 1, set_to, value, 2);
  };
  EXPECT_DEATH(finish([&] { write_in_two_streams(false); }), "a race");
  EXPECT_DEATH(finish([&] {
                 run(stream_, 1, 1, set_to, value, 1);
                 (void)contents(value, 1);  // waits for stream_
                 run(other_, 1, 1, set_to, value, 2);
                 (void)cudaMemsetAsync(value, 0, sizeof(int), stream_);
               }),
               "written by cudaMemsetAsync");
  write_in_two_streams(true);
  EXPECT_EQ(cudaStreamSynchronize(other_), cudaSuccess);
  // Branches of a graph.
  const auto captured = [&](bool ordered) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed), cudaSuccess);
    if (ordered) run(stream_, 1, 1, set_to, value, 1);
    ASSERT_EQ(cudaEventRecord(between, stream_), cudaSuccess);
    ASSERT_EQ(cudaStreamWaitEvent(other_, between, 0), cudaSuccess);
    if (!ordered) run(stream_, 1, 1, set_to, value, 1);
    run(other_, 1, 1, set_to, value, 2);
    ASSERT_EQ(cudaEventRecord(between, other_), cudaSuccess);
    ASSERT_EQ(cudaStreamWaitEvent(stream_, between, 0), cudaSuccess);
    run(stream_, 1, 1, set_to, value, 3);
    ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
    ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
    for (int i = 0; i < 2; ++i) ASSERT_EQ(cudaGraphLaunch(executable, stream_), cudaSuccess);
    EXPECT_EQ(contents(value, 1)[0], 3);
    EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  };
  captured(true);
  EXPECT_DEATH(captured(false), "a race");
  EXPECT_EQ(cudaEventDestroy(between), cudaSuccess);
  EXPECT_EQ(cudaFree(value), cudaSuccess);
}

TEST_F(SoftwareDevice, ThreadsThatWaitForOthersForEverAreFound) {
  int* const values = memory(64);
  EXPECT_DEATH(
      {
        run(stream_, 1, 32, half_a_warp_exchanges, values);
        (void)cudaStreamSynchronize(stream_);
      },
      "half_a_warp|never come to the same place");
  EXPECT_DEATH(
      {
        run(stream_, 1, 64, one_thread_skips_the_barrier, values);
        (void)cudaStreamSynchronize(stream_);
      },
      "never come to the same place");
}

TEST_F(SoftwareDevice, MemoryOfTheDeviceIsNotTheHosts) {
  int* const values = memory(8);
  run(stream_, 1, 8, store_index, values);
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_DEATH(
      {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));  // the device is idle
        values[1] = 7;
      },
      "which the host cannot access");
  EXPECT_EQ(contents(values, 2)[1], 1);
}

TEST_F(SoftwareDevice, AccessOutsideAllocationsIsFound) {
  int* const values = memory(1024);  // a page
  EXPECT_DEATH(
      {
        run(stream_, 1, 1, set_to, values + 1024, 1);
        (void)cudaStreamSynchronize(stream_);
      },
      "not allocated by kernel .*block \\(0, 0, 0\\), thread \\(0, 0, 0\\)");
  EXPECT_EQ(cudaFree(values), cudaSuccess);
  EXPECT_DEATH(
      {
        run(stream_, 1, 1, set_to, values, 1);
        (void)cudaStreamSynchronize(stream_);
      },
      "not allocated by kernel");
  EXPECT_EQ(cudaMemsetAsync(values, 0, 4, stream_), cudaErrorInvalidValue);
  int* const pair = memory(2);
  EXPECT_EQ(cudaMemsetAsync(pair, 0, 12, stream_), cudaErrorInvalidValue);
#if defined(__SANITIZE_ADDRESS__)  // which knows where an allocation ends within its page
  EXPECT_DEATH(finish([&] { run(stream_, 1, 3, store_index, pair); }), "AddressSanitizer");
#endif
}

TEST_F(SoftwareDevice, StreamsRunInAnyOrderThatEventsAllow) {
  int* const value = memory(1);
  bool second_last = false;
  bool first_last = false;
  for (int i = 0; i < 200 && !(second_last && first_last); ++i) {
    run(stream_, 1, 1, set_unreported, value, 1);
    run(other_, 1, 1, set_unreported, value, 2);
    EXPECT_EQ(cudaStreamSynchronize(other_), cudaSuccess);
    (contents(value, 1)[0] == 2 ? second_last : first_last) = true;
  }
  EXPECT_TRUE(second_last && first_last);
  const cudaEvent_t ordered = event();
  for (int i = 0; i < 100; ++i) {
    run(stream_, 1, 1, set_to, value, 1);
    EXPECT_EQ(cudaEventRecord(ordered, stream_), cudaSuccess);
    EXPECT_EQ(cudaStreamWaitEvent(other_, ordered, 0), cudaSuccess);
    run(other_, 1, 1, set_to, value, 2);
    EXPECT_EQ(cudaStreamSynchronize(other_), cudaSuccess);
    ASSERT_EQ(contents(value, 1)[0], 2);
  }
  EXPECT_EQ(cudaEventDestroy(ordered), cudaSuccess);
}

TEST_F(SoftwareDevice, CapturesFollowTheRules) {
  int* const value = memory(1);
  const cudaEvent_t fork = event();
  cudaGraph_t graph = nullptr;
  // What is captured does not run.
  run(stream_, 1, 1, set_to, value, 1);
  EXPECT_EQ(contents(value, 1)[0], 1);
  ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed), cudaSuccess);
  run(stream_, 1, 1, set_to, value, 2);
  EXPECT_EQ(cudaEventRecord(fork, stream_), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(fork), cudaErrorCapturedEvent);
  EXPECT_EQ(cudaStreamWaitEvent(other_, fork, 0), cudaSuccess);
  run(other_, 1, 1, set_to, value, 3);
  const cudaEvent_t join = event();
  EXPECT_EQ(cudaEventRecord(join, other_), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(stream_, join, 0), cudaSuccess);
  ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
  EXPECT_EQ(contents(value, 1)[0], 1);
  cudaGraphExec_t executable = nullptr;
  ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(cudaGraphLaunch(executable, stream_), cudaSuccess);
    EXPECT_EQ(contents(value, 1)[0], 3);
  }
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  // A stream that is not joined, and a synchronization.
  ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(fork, stream_), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(other_, fork, 0), cudaSuccess);
  run(other_, 1, 1, set_to, value, 3);
  EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaErrorStreamCaptureUnjoined);
  ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaErrorStreamCaptureInvalidated);
  // Memory that a graph uses and that is given back.
  EXPECT_EQ(cudaFree(value), cudaSuccess);
  EXPECT_DEATH(
      {
        (void)cudaGraphLaunch(executable, stream_);
        (void)cudaStreamSynchronize(stream_);
      },
      "not allocated by kernel");
  EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(fork), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(join), cudaSuccess);
}

TEST_F(SoftwareDevice, GridsOutsideTheLimitsAreRefused) {
  const auto status = [&](dim3 blocks, dim3 threads) {
    const cudaLaunchConfig_t config{blocks, threads, 0, stream_};
    return cudaLaunchKernelEx(&config, set_to, nullptr, 0);
  };
  for (const auto& [blocks, threads] : {std::pair<dim3, dim3>{0, 1},
                                        {1, 0},
                                        {1, 1025},
                                        {dim3(1, 65536), 1},
                                        {1, dim3(1, 1, 65)},
                                        {dim3(1, 1, 65536), 1}})
    EXPECT_EQ(status(blocks, threads), cudaErrorInvalidConfiguration);
}

void poll_from_two_threads() {
  ncclUniqueId id{};
  (void)ncclGetUniqueId(&id);
  ncclComm_t comm = nullptr;
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  (void)ncclCommInitRankConfig(&comm, 1, id, 0, &config);
  const auto poll = [comm] {
    ncclResult_t state{};
    for (int i = 0; i < 1000000; ++i) (void)ncclCommGetAsyncError(comm, &state);
  };
  std::thread other(poll);
  poll();
  other.join();
}

TEST_F(SoftwareDevice, OneThreadAtATimeUsesACommunicator) {
  EXPECT_DEATH(poll_from_two_threads(), "two threads use a communicator at once");
}

TEST_F(SoftwareDevice, OutOfMemory) {
  void* made = nullptr;
  EXPECT_EQ(cudaMalloc(&made, size_t{1} << 40), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_EQ(cudaFree(pinned(1)), cudaErrorInvalidValue);
}

}  // namespace
