#pragma once

#include <tutti/core/config/fields.h>
#include <tutti/core/peers.h>
#include <tutti/core/stream.h>

#include <memory>
#include <string>
#include <vector>

namespace tutti {

/// What a rank computes with: keys of a run file's `run` section.
struct ComputeConfig {
  int64_t threads = 0;          ///< of a rank; 0: an even share of the host's cores
  std::string device = "auto";  ///< auto, cpu or cuda
  bool share_gpus = false;      ///< several ranks may use one GPU

  void describe(Fields& f);
};

/// The device of one rank.
struct DevicePlacement {
  Device device;
  std::string uuid;     ///< of a GPU
  std::string pci;      ///< of a GPU of this process: "0000:17:00.0"
  bool shared = false;  ///< some GPU of the run serves several ranks
  std::string note;     ///< why `auto` took the CPU, if a GPU could have been expected
};

/// The threads of one rank. `cores` names one logical CPU for each thread. It is empty where threads are not
/// bound: when they outnumber the cores, or when they leave cores free, because another run on this machine
/// would bind its threads to the same few.
struct ThreadPlacement {
  int threads = 1;
  std::vector<int> cores;
};

/// Device, threads and stream of one rank: the set-up of everything that computes, from training to
/// benchmarks.
///
/// Ranks of a host that see the same GPUs take them in the order of their ranks; a launcher that shows each
/// rank its own GPU is followed. Ranks of a host whose CPUs overlap (mpirun --bind-to none) divide them in
/// the order of their ranks, beside their GPUs; a launcher's own binding is kept.
class Compute {
 public:
  /// Collective over `peers`. Binds the calling thread to the first of its cores for the life of this object.
  /// Throws Error on all ranks alike: for settings out of range; if GPUs are wanted and a rank has none (all
  /// such ranks are named, each with its reason), or if two ranks would share one and share_gpus is false:
  /// then with a map of ranks, hosts and UUIDs.
  /// `selection` is that of the stream: DataParallelConfig::algorithm_selection().
  Compute(Peers& peers, const ComputeConfig& config,
          AlgorithmSelection selection = AlgorithmSelection::kAutotuned);
  /// To be destroyed by the thread that made it.
  ~Compute();
  Compute(const Compute&) = delete;
  Compute& operator=(const Compute&) = delete;

  [[nodiscard]] const DevicePlacement& placement() const noexcept { return placement_; }
  [[nodiscard]] const Device& device() const noexcept { return placement_.device; }
  [[nodiscard]] bool on_cpu() const noexcept { return device().type == DeviceType::kCpu; }
  [[nodiscard]] const ThreadPlacement& threads() const noexcept { return threads_; }
  /// Of forward, backward and update: on the CPU the calling thread and the rank's others.
  [[nodiscard]] const Stream& stream() const noexcept { return stream_; }
  /// Work on the CPU by all of the rank's threads, whatever the device.
  [[nodiscard]] Stream host_stream() const { return Stream::inline_on(*pool_); }

 private:
  DevicePlacement placement_;
  ThreadPlacement threads_;
  std::unique_ptr<ThreadPool> pool_;
  Stream stream_;
};

}  // namespace tutti
