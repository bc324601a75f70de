#include "launcher/preflight/preflight.h"

#include <tutti/comm/peers.h>
#include <tutti/core/error.h>
#include <tutti/core/io/file.h>
#include <tutti/core/io/sha256.h>
#include "comm/placement/placement.h"
#include "core/start_thread.h"
#include "launcher/info/build.h"
#include "launcher/info/libraries.h"
#include "launcher/info/machine.h"
#include "launcher/preflight/cpu_quota.h"
#include "launcher/preflight/gpu.h"
#include "launcher/preflight/measure.h"
#include "launcher/preflight/network.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <thread>

namespace tutti {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr int64_t kMebibyte = int64_t{1} << 20;

/// The size of each measurement.
struct Amounts {
  int64_t gemm_size;
  double gemm_s;
  int64_t memory_bytes;
  double memory_s;
  int64_t disk_bytes;
  double disk_s;
  PairOptions pairs;
};

Amounts amounts(bool brief) {
  if (brief) {
    return {.gemm_size = 512,
            .gemm_s = 0.5,
            .memory_bytes = 16 * kMebibyte,
            .memory_s = 0.3,
            .disk_bytes = 8 * kMebibyte,
            .disk_s = 2,
            .pairs = {.bytes = kMebibyte, .small_messages = 10, .large_messages = 3, .most_s = 5}};
  }
  return {.gemm_size = 1024,
          .gemm_s = 3,
          .memory_bytes = 64 * kMebibyte,
          .memory_s = 2,
          .disk_bytes = 256 * kMebibyte,
          .disk_s = 10,
          .pairs = {.bytes = 8 * kMebibyte, .small_messages = 50, .large_messages = 5, .most_s = 20}};
}

/// Aborts all ranks if preflight takes too long.
class Watchdog {
 public:
  Watchdog(Collective& world, double limit_s)
      : limit_s_(limit_s), thread_(start_thread("preflight", [this, &world] { watch(world); })) {}
  ~Watchdog() {
    {
      const std::scoped_lock lock(mutex_);
      done_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  /// Sets the current step.
  void at(std::string_view step) {
    const std::scoped_lock lock(mutex_);
    step_ = step;
  }

 private:
  void watch(Collective& world) {
    std::unique_lock lock(mutex_);
    const auto limit = std::chrono::duration<double>(limit_s_);
    if (changed_.wait_for(lock, limit, [this] { return done_; })) return;
    const std::string reason = fmt::format(
        "preflight did not end within {:g} s; rank {} on {} was at: {}. Exclude the host that hangs "
        "(--exclude), "
        "or continue without preflight (--preflight off)",
        limit_s_, world.rank(), host_name(), step_);
    lock.unlock();
    world.abort(reason);
  }

  double limit_s_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  std::string step_ = "start";
  std::thread thread_;  // last: it uses the others
};

/// SHA-256 of a file; or the error, so that hosts that cannot read it are found.
std::string digest(const fs::path& path) {
  try {
    return sha256(MappedFile::open(path)->bytes());
  } catch (const Error& problem) {
    return problem.what();
  }
}

std::string all_libraries() {
  std::string text = "tutti " + build_version();
  for (const auto& [library, version] : library_versions()) text += fmt::format(", {} {}", library, version);
  return text;
}

/// The bytes of huge pages that are reserved.
int64_t huge_page_bytes() {
  std::ifstream file("/proc/meminfo");
  int64_t pages = 0;
  int64_t size_kib = 0;
  for (std::string word; file >> word;) {
    if (word == "HugePages_Total:") file >> pages;
    if (word == "Hugepagesize:") file >> size_kib;
  }
  return pages * size_kib * 1024;
}

/// All measurements of one rank.
class Preflight {
 public:
  Preflight(const PreflightOptions& options, Collective& world)
      : options_(options), world_(world), peers_(world), amounts_(amounts(options.brief)) {}

  PreflightResult run() {
    const auto begin = Clock::now();
    Watchdog watchdog(world_, options_.limit_s);
    watchdog.at("bootstrap");
    const ThreadPlacement placement = place_threads(peers_, 0);
    ThreadPool pool(placement.threads, placement.cores);
    pool.bind_caller();
    const Stream stream = Stream::inline_on(pool);
    mine_ = {.rank = world_.rank(), .host = host_name(), .threads = placement.threads};
    const std::vector<std::string> hosts = peers_.all_gather(mine_.host);
    std::vector<int> speakers;
    for (size_t r = 0; r < hosts.size(); ++r) {
      const auto end = hosts.begin() + static_cast<std::ptrdiff_t>(r);
      if (std::find(hosts.begin(), end, hosts[r]) == end) speakers.push_back(static_cast<int>(r));
    }
    mine_.speaks_for_host = std::find(speakers.begin(), speakers.end(), world_.rank()) != speakers.end();

    watchdog.at("reading program and run file");
    mine_.binary = digest("/proc/self/exe");
    if (!options_.run_file.empty()) mine_.run_file = digest(options_.run_file);
    mine_.libraries = all_libraries();
    // All ranks of a host at the same time, as in a training.
    peers_.barrier();
    watchdog.at("matrix products");
    mine_.gemm_flops_per_s = measure_gemm(stream, amounts_.gemm_size, amounts_.gemm_s);
    peers_.barrier();
    watchdog.at("memory");
    mine_.memory_bytes_per_s = measure_memory(stream, amounts_.memory_bytes, amounts_.memory_s);
    peers_.barrier();
    if (mine_.speaks_for_host) {
      watchdog.at("the driver of the GPUs");
      GpuList gpus = list_gpus();
      mine_.gpus = std::move(gpus.gpus);
      mine_.gpu_error = std::move(gpus.error);
      watchdog.at("the disk of the run directory");
      look_at_host();
    }
    watchdog.at("waiting for the disks of other hosts");
    peers_.barrier();
    watchdog.at("the network");
    std::vector<int> players = speakers;
    if (speakers.size() == 1) {
      players.clear();
      for (int r = 0; r < world_.size(); ++r) players.push_back(r);
    }
    mine_.pairs = measure_pairs(world_, players, amounts_.pairs, stream);
    watchdog.at("clocks");
    mine_.clocks = measure_clocks(world_, speakers, stream);

    PreflightResult result;
    result.reports.reserve(static_cast<size_t>(world_.size()));
    for (const std::string& text : peers_.all_gather(to_text(mine_)))
      result.reports.push_back(report_from_text(text));
    result.verdict = evaluate(result.reports);
    result.wall_s = std::chrono::duration<double>(Clock::now() - begin).count();
    return result;
  }

 private:
  void look_at_host() {
    const MachineInfo machine = machine_info();
    mine_.cpu_quota = cpu_quota_here();
    mine_.memory_bytes = machine.memory_bytes;
    mine_.available_bytes = machine.available_bytes;
    mine_.huge_page_bytes = huge_page_bytes();
    struct statvfs shared {};
    if (statvfs("/dev/shm", &shared) == 0) {
      mine_.shm_bytes = static_cast<int64_t>(shared.f_blocks) * static_cast<int64_t>(shared.f_frsize);
      mine_.shm_free_bytes = static_cast<int64_t>(shared.f_bavail) * static_cast<int64_t>(shared.f_frsize);
    }
    const DiskSpeed disk = measure_disk(options_.run_directory, amounts_.disk_bytes, amounts_.disk_s);
    mine_.disk_error = disk.error;
    mine_.disk_free_bytes = disk.free_bytes;
    mine_.disk_write_bytes_per_s = disk.write_bytes_per_s;
    mine_.disk_read_bytes_per_s = disk.read_bytes_per_s;
  }

  const PreflightOptions& options_;
  Collective& world_;
  CollectivePeers peers_;
  Amounts amounts_;
  RankReport mine_;
};

}  // namespace

PreflightResult preflight(const PreflightOptions& options, Collective& world) {
  return Preflight(options, world).run();
}

}  // namespace tutti
