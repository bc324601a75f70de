#pragma once

#include <tutti/comm/compute_settings.h>
#include <tutti/core/peers.h>
#include <tutti/core/stream.h>

#include <memory>
#include <string>
#include <vector>

namespace tutti {

/// The device of one rank.
struct DevicePlacement {
  Device device;
  std::string uuid;     ///< of a GPU
  std::string pci;      ///< of a GPU of this process: "0000:17:00.0"
  bool shared = false;  ///< a GPU of the run is used by several ranks
  std::string note;     ///< why `auto` chose the CPU where a GPU is expected
};

/// The threads of one rank. `cores` has one logical CPU for each thread. It is empty if threads are not
/// bound: if there are more threads than cores, or fewer, because another run on this machine would bind its
/// threads to the same cores.
struct ThreadPlacement {
  int threads = 1;
  std::vector<int> cores;
};

/// Device, threads and stream of one rank, for everything that computes, from training to benchmarks.
///
/// Ranks of a host with the same visible GPUs are assigned them in rank order; if a launcher makes one GPU
/// visible to each rank, that GPU is used. Ranks of a host whose CPUs overlap (mpirun --bind-to none) divide
/// them in rank order, near their GPUs; the binding of a launcher is kept.
class Compute {
 public:
  /// Collective over `peers`. Binds the calling thread to the first of its cores for the lifetime of this
  /// object. Throws the same Error on all ranks: for settings out of range; if GPUs are requested and a rank
  /// has none (with all such ranks and their reasons); or if two ranks would share a GPU and share_gpus is
  /// false (with a map of ranks, hosts and UUIDs).
  /// `selection` is that of the stream: DataParallelConfig::algorithm_selection().
  Compute(Peers& peers, const ComputeConfig& config,
          AlgorithmSelection selection = AlgorithmSelection::kAutotuned);
  /// Must be destroyed by the thread that constructed it.
  ~Compute();
  Compute(const Compute&) = delete;
  Compute& operator=(const Compute&) = delete;

  [[nodiscard]] const DevicePlacement& placement() const noexcept { return placement_; }
  [[nodiscard]] const Device& device() const noexcept { return placement_.device; }
  [[nodiscard]] bool on_cpu() const noexcept { return device().type == DeviceType::kCpu; }
  [[nodiscard]] const ThreadPlacement& threads() const noexcept { return threads_; }
  /// The stream of forward, backward and update; on the CPU it uses the calling thread and the other threads
  /// of the rank.
  [[nodiscard]] const Stream& stream() const noexcept { return stream_; }
  /// A stream of the CPU with all threads of the rank, for any device.
  [[nodiscard]] Stream host_stream() const { return Stream::inline_on(*pool_); }

 private:
  DevicePlacement placement_;
  ThreadPlacement threads_;
  std::unique_ptr<ThreadPool> pool_;
  Stream stream_;
};

}  // namespace tutti
