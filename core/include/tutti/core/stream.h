#pragma once

#include <tutti/core/thread_pool.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace tutti {

enum class DeviceType : uint8_t { kCpu, kCuda };

struct Device {
  DeviceType type = DeviceType::kCpu;
  int index = 0;
  friend bool operator==(const Device&, const Device&) = default;
};

/// "cpu", "cuda:1".
std::string name(const Device& device);

/// A point in a stream's work that others can wait for. Copies refer to the same point.
class Event {
 public:
  Event() = default;
  /// Blocks until the work before the point is done; rethrows its exception. A default Event is done.
  void wait() const;
  [[nodiscard]] bool done() const;

 private:
  friend class Stream;
  struct State;
  std::shared_ptr<State> state_;
};

/// How kernels on a device select one of a library's algorithms for a problem. The algorithms differ in speed
/// and in the last bits of the result.
enum class AlgorithmSelection : uint8_t {
  /// The fastest on this device: timed at first use, then cached. The backward pass of attention in bf16 on
  /// CUDA may then be non-deterministic: it adds partial sums in the order in which they finish.
  kAutotuned,
  /// The first that the library's heuristic proposes. It depends only on the device model and the library
  /// version, and results are deterministic.
  kHeuristic,
};

/// An ordered queue of work on one device; a cheap handle, copies share the queue.
///
/// On the CPU there are two kinds. `Stream::inline_on(pool)` runs work immediately on the calling thread,
/// with `pool` for parallel loops: the compute stream. `Stream::queued()` has a thread that runs work in
/// order: the communication stream.
///
/// `Stream::cuda(device)` is a CUDA stream: `run` calls the work immediately, which enqueues kernels and
/// copies on the device and returns before they are done.
class Stream {
 public:
  /// `pool` outlives the stream.
  static Stream inline_on(ThreadPool& pool);
  /// `pool_threads` threads for parallel loops inside the queued work.
  static Stream queued(const std::string& thread_name, int pool_threads = 1);
  enum class Priority : uint8_t { kNormal, kHigh };
  /// Work of a high-priority stream is scheduled first. Throws Error if the build has no CUDA, if the device
  /// does not exist, or if the build has no kernels for it.
  static Stream cuda(int device, Priority priority = Priority::kNormal,
                     AlgorithmSelection selection = AlgorithmSelection::kAutotuned);

  [[nodiscard]] const Device& device() const;
  /// The threads for parallel loops of work on this stream.
  [[nodiscard]] ThreadPool& pool() const;
  /// Runs `work` after all earlier work. An exception is rethrown at the next Event::wait or synchronize;
  /// work queued after it is skipped until then. On an inline stream it is thrown here.
  void run(std::function<void()> work) const;
  [[nodiscard]] Event record() const;
  /// Work enqueued on this stream after this call runs after `event`. The calling thread is blocked only on
  /// an inline stream of the CPU, or by an event of another device type.
  void wait(const Event& event) const;
  /// Waits for all work so far and rethrows its first exception.
  void synchronize() const;
  /// Of the work on this stream; on the CPU every algorithm is fixed.
  [[nodiscard]] AlgorithmSelection algorithm_selection() const noexcept;
  /// The cudaStream_t of a CUDA stream, else null.
  [[nodiscard]] void* native() const noexcept;
  friend bool operator==(const Stream& a, const Stream& b) noexcept { return a.impl_ == b.impl_; }

 private:
  struct Impl;
  explicit Stream(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<Impl> impl_;
};

}  // namespace tutti
