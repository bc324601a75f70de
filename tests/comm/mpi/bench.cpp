// Compares all-reduce with MPI_Allreduce in the same run, and measures the cost of waiting.
// mpirun -n 2 build/release/tests/comm_bench
#include "comm/mpi/collective.h"

#include <fmt/format.h>
#include <mpi.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

namespace tutti {
namespace {

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double cpu_s() {
  rusage usage{};
  (void)getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

struct Times {
  double median_s, best_s;
};

/// Times of many repetitions on the slowest rank.
Times measure(Collective& world, const Stream& stream, int repetitions, const std::function<void()>& work) {
  std::vector<double> times;
  for (int i = 0; i < repetitions + 2; ++i) {
    world.barrier(stream);
    const double begin = now_s();
    work();
    if (i >= 2) times.push_back(now_s() - begin);
  }
  std::sort(times.begin(), times.end());
  const Tensor slowest = Tensor::from(std::vector{times[times.size() / 2], times.front()}, {2}, stream);
  world.all_reduce(slowest, Reduce::kMax, stream);
  return {slowest.data<double>()[0], slowest.data<double>()[1]};
}

void compare_all_reduce(Collective& world, const Stream& stream) {
  const auto print = [&](const std::string& line) {
    if (world.rank() == 0) fmt::print("{}\n", line);
  };
  print(fmt::format("all_reduce of fp32 sums, {} ranks: median (best) milliseconds", world.size()));
  print(fmt::format("{:>10} {:>20} {:>20} {:>20} {:>7}", "KiB", "MPI_Allreduce", "private", "allocated",
                    "ratio"));
  for (const int64_t bytes :
       {int64_t{64}, int64_t{8} << 10, int64_t{256} << 10, int64_t{4} << 20, int64_t{32} << 20}) {
    const int64_t n = bytes / 4;
    const int repetitions = bytes > 1 << 20 ? 20 : 200;
    const Tensor plain = Tensor::zeros({n}, DType::kFloat32, stream);
    const Tensor shared = world.allocate({n}, DType::kFloat32, stream);
    fill(shared, 0, stream);
    bool failed = false;
    const Times theirs = measure(world, stream, repetitions, [&] {
      failed |= MPI_Allreduce(MPI_IN_PLACE, plain.raw(), static_cast<int>(n), MPI_FLOAT, MPI_SUM,
                              MPI_COMM_WORLD) != MPI_SUCCESS;
    });
    require(!failed, "MPI_Allreduce failed");
    const Times own =
        measure(world, stream, repetitions, [&] { world.all_reduce(plain, Reduce::kSum, stream); });
    const Times allocated =
        measure(world, stream, repetitions, [&] { world.all_reduce(shared, Reduce::kSum, stream); });
    const auto text = [](const Times& t) {
      return fmt::format("{:.4f} ({:.4f})", 1e3 * t.median_s, 1e3 * t.best_s);
    };
    print(fmt::format("{:>10} {:>20} {:>20} {:>20} {:>6.1f}x ({:.1f}x)", static_cast<double>(bytes) / 1024,
                      text(theirs), text(own), text(allocated), theirs.median_s / allocated.median_s,
                      theirs.best_s / allocated.best_s));
  }
}

/// The share of a core that rank 0 uses while it waits a second for the others, and how late it wakes up.
void cost_of_waiting(Collective& world, const Stream& stream, const char* name,
                     const std::function<void()>& work) {
  world.barrier(stream);
  const Tensor ready = Tensor::zeros({1}, DType::kFloat64, stream);
  if (world.rank() != 0) {
    std::this_thread::sleep_for(std::chrono::seconds(1));
    ready.data<double>()[0] = now_s();  // one machine, one clock
  }
  const double cpu = cpu_s();
  const double begin = now_s();
  work();
  const double end = now_s();
  const double used = cpu_s() - cpu;
  world.all_reduce(ready, Reduce::kMax, stream);
  if (world.rank() == 0) {
    fmt::print("waiting {:.2f} s in {}: {:.1f} % of a core, {:.3f} ms late\n", end - begin, name,
               100 * used / (end - begin), 1e3 * (end - ready.item()));
  }
}

void run() {
  const char* per_node = std::getenv("TUTTI_BENCH_RANKS_PER_NODE");
  MpiSession session({.ranks_per_node = per_node == nullptr ? 0 : std::atoi(per_node)});
  const auto world = make_mpi_world(session);
  ThreadPool pool(1);
  const Stream stream = Stream::inline_on(pool);
  compare_all_reduce(*world, stream);
  if (world->size() == 1) return;
  const Tensor t = Tensor::zeros({1000}, DType::kFloat32, stream);
  cost_of_waiting(*world, stream, "all_reduce", [&] { world->all_reduce(t, Reduce::kSum, stream); });
  cost_of_waiting(*world, stream, "recv", [&] {
    if (world->rank() == 0) world->recv(t, 1, stream);
    if (world->rank() == 1) world->send(t, 0, stream);
  });
}

}  // namespace
}  // namespace tutti

int main(int argc, char** argv) {
  // Initialises MPI itself for the comparison; the session uses the same MPI.
  int level = MPI_THREAD_SINGLE;
  if (MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &level) != MPI_SUCCESS) return 1;
  try {
    tutti::run();
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    (void)MPI_Abort(MPI_COMM_WORLD, 1);
  }
  return MPI_Finalize() == MPI_SUCCESS ? 0 : 1;
}
