#include "tests/device/engine.h"

#include "tests/device/kernel_name.h"
#include "tests/device/memory.h"
#include "tests/device/settings.h"

#include <fmt/format.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <map>
#include <thread>

namespace software_cuda {
namespace {

thread_local cudaError_t last_error = cudaSuccess;
thread_local int device_of_thread = 0;

}  // namespace

cudaError_t result(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

int current_device() {
  return device_of_thread;
}

Engine& engine() {
  static auto& only = *new Engine;  // its thread runs until the process ends
  return only;
}

namespace {

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;  // clang 16 does not find it itself

const Call* running_call = nullptr;

void say(std::string_view text) {
  (void)!write(STDERR_FILENO, text.data(), text.size());
}

/// Names the kernel and thread, and what its address is.
void on_bad_access(int number, siginfo_t* info, void*) {
  const char* const what = describe_address(info->si_addr);
  if (what != nullptr) {
    say("software device: access to ");
    say(what);
    if (const Kernel* const kernel = running_kernel()) {
      char text[96];
      say(" by kernel ");
      say(kernel_name(kernel->function));
      (void)std::snprintf(text, sizeof text, ", block (%u, %u, %u), thread (%u, %u, %u)", blockIdx.x,
                          blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
      say(text);
    } else if (running_call != nullptr) {
      say(" by ");
      say(running_call->what);
    }
    say("\n");
  }
  (void)std::signal(number, SIG_DFL);
  (void)std::raise(number);
}

bool ready(const Work& work) {
  const auto* const await = std::get_if<Await>(&work);
  return await == nullptr || await->mark->reached;
}

/// From now on, all calls return this error. Returns true: the work has ended.
bool set_error(cudaError_t error) {
  const std::scoped_lock lock(engine().mutex);
  engine().error = error;
  return true;
}

/// Whether the settings say that this kernel fails.
bool fails(const Kernel& kernel) {
  constexpr std::string_view kPrefix = "kernel:";
  const std::string& fault = settings().fault;
  if (!fault.starts_with(kPrefix)) return false;
  static auto& names = *new std::map<const void*, std::string>;
  const auto [found, fresh] = names.try_emplace(kernel.function);
  if (fresh) found->second = kernel_name(kernel.function);
  return found->second.find(fault.substr(kPrefix.size())) != std::string::npos;
}

/// Runs work of a timeline without the mutex. Returns whether it is complete.
bool run(Work& work, Random& random, uint32_t timeline, race::Clock& clock) {
  return std::visit(Overloaded{[&](Kernel& kernel) {
                                 if (fails(kernel)) return set_error(cudaErrorIllegalAddress);
                                 race::begin_work(timeline, clock, kernel.function);
                                 const std::string problem = run_grid(kernel, random);
                                 if (!problem.empty()) {
                                   say(fmt::format("software device: kernel {}: {}\n",
                                                   kernel_name(kernel.function), problem));
                                   std::abort();
                                 }
                                 race::end_work();
                                 return true;
                               },
                               [&](Call& call) {
                                 race::begin_work(timeline, clock, nullptr, call.what);
                                 running_call = &call;
                                 call.body();
                                 running_call = nullptr;
                                 race::end_work();
                                 return true;
                               },
                               [&](Polled& polled) {
                                 if (!polled.advance()) return false;
                                 race::begin_work(timeline, clock, nullptr, polled.what);
                                 for (const auto& r : polled.ranges) race::touch(r.memory, r.bytes, r.kind);
                                 race::end_work();
                                 return true;
                               },
                               [](Reach&) { return true; }, [](Await&) { return true; }},
                    work);
}

class Device {
 public:
  explicit Device(Engine& e) : e_(e) {}

  [[noreturn]] void loop() {
    std::unique_lock lock(e_.mutex);
    while (true) {
      CUstream_st* const stream = draw();
      if (stream == nullptr) {
        if (settings().guards) close_memory();
        e_.submitted.wait(lock);
        continue;
      }
      if (settings().guards) open_memory();
      Item& item = stream->queue.front();
      race::join(stream->clock, *item.before);
      auto* const work = std::get_if<Work>(&item.what);
      if (work != nullptr) {
        if (const auto* const await = std::get_if<Await>(work)) race::join(stream->clock, await->mark->clock);
      }
      e_.running = true;
      lock.unlock();
      const bool complete = work != nullptr ? run(*work, e_.random, stream->timeline, stream->clock)
                                            : advance(std::get<Replay>(item.what), stream->clock);
      // What waits for other processes must not keep them from running.
      if (!complete) std::this_thread::sleep_for(std::chrono::microseconds(50));
      lock.lock();
      e_.running = false;
      if (e_.error != cudaSuccess) e_.progressed.notify_all();
      if (!complete) continue;
      if (work != nullptr) reach(*work, *stream);
      stream->queue.pop_front();
      e_.progressed.notify_all();
    }
  }

 private:
  static void reach(const Work& work, const CUstream_st& stream) {
    if (const auto* const mark = std::get_if<Reach>(&work)) {
      mark->mark->reached = true;
      mark->mark->clock = stream.clock;
      mark->mark->when = std::chrono::steady_clock::now();
    }
  }

  /// A stream whose next work can run; null if there is none, or after an error.
  CUstream_st* draw() {
    if (e_.error != cudaSuccess) return nullptr;
    std::vector<CUstream_st*> can;
    for (CUstream_st* const stream : e_.streams) {
      if (stream->queue.empty()) continue;
      const auto* const work = std::get_if<Work>(&stream->queue.front().what);
      if (work == nullptr || ready(*work)) can.push_back(stream);
    }
    return can.empty() ? nullptr : can[e_.random() % can.size()];
  }

  /// Runs one node of a graph whose predecessors are done. Returns whether all are.
  bool advance(Replay& replay, race::Clock& clock) {
    std::vector<Node>& nodes = replay.nodes;
    std::vector<size_t> can;
    for (size_t i = 0; i < nodes.size(); ++i) {
      if (replay.done[i]) continue;
      const auto done = [&](size_t before) { return replay.done[before]; };
      if (std::all_of(nodes[i].after.begin(), nodes[i].after.end(), done)) can.push_back(i);
    }
    if (can.empty()) {
      for (const race::Clock& after : replay.clocks) race::join(clock, after);
      return true;
    }
    const size_t chosen = can[e_.random() % can.size()];
    Node& node = nodes[chosen];
    race::Clock& own = replay.clocks[chosen];
    own = clock;
    for (const size_t before : node.after) race::join(own, replay.clocks[before]);
    if (run(node.work, e_.random, node.timeline, own)) replay.done[chosen] = true;
    return false;
  }

  Engine& e_;
};

void add_node(CUstream_st* stream, Work work) {
  stream->capture->nodes.push_back({std::move(work), stream->tail});
  stream->tail = {stream->capture->nodes.size() - 1};
}

}  // namespace

void start(Engine& e) {
  if (e.started) return;
  e.started = true;
  struct sigaction action {};
  action.sa_sigaction = &on_bad_access;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  (void)sigaction(SIGSEGV, &action, nullptr);
  (void)sigaction(SIGBUS, &action, nullptr);
  sigset_t all;
  sigset_t before;
  (void)sigfillset(&all);
  (void)sigdelset(&all, SIGSEGV);
  (void)sigdelset(&all, SIGBUS);
  (void)pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread([&e] { Device(e).loop(); });
  (void)pthread_sigmask(SIG_SETMASK, &before, nullptr);
  (void)pthread_setname_np(thread.native_handle(), "software-cuda");
  thread.detach();
}

bool known(Engine& e, cudaStream_t stream) {
  return stream != nullptr && e.streams.contains(stream);
}

cudaError_t forbidden(CUstream_st* stream) {
  stream->capture->invalid = true;
  return result(cudaErrorStreamCaptureUnsupported);
}

void begin(Work& work) {
  if (auto* const polled = std::get_if<Polled>(&work)) polled->advance = polled->begin();
}

cudaError_t wait_for(std::unique_lock<std::mutex>& lock, const std::function<bool()>& done) {
  Engine& e = engine();
  e.progressed.wait(lock, [&] { return done() || (e.error != cudaSuccess && !e.running); });
  return result(e.error);
}

cudaError_t submit(cudaStream_t stream, Work work) {
  Engine& e = engine();
  const std::scoped_lock lock(e.mutex);
  if (e.error != cudaSuccess) return result(e.error);
  if (!known(e, stream)) return result(cudaErrorInvalidResourceHandle);
  if (stream->capture != nullptr) {
    if (stream->capture->invalid) return result(cudaErrorStreamCaptureInvalidated);
    add_node(stream, std::move(work));
    return cudaSuccess;
  }
  begin(work);
  e.enqueue(*stream, std::move(work));
  return cudaSuccess;
}

cudaError_t synchronize(cudaStream_t stream) {
  Engine& e = engine();
  std::unique_lock lock(e.mutex);
  if (stream != nullptr) {
    if (!known(e, stream)) return result(cudaErrorInvalidResourceHandle);
    if (stream->capture != nullptr) return forbidden(stream);
    const cudaError_t error = wait_for(lock, [&] { return stream->queue.empty(); });
    e.observe(stream->clock);
    return error;
  }
  const cudaError_t error = wait_for(lock, [&] {
    return std::all_of(e.streams.begin(), e.streams.end(),
                       [](const CUstream_st* s) { return s->queue.empty(); });
  });
  for (const CUstream_st* const each : e.streams) e.observe(each->clock);
  return error;
}

namespace {

bool capturing(CUstream_st* stream) {
  const std::scoped_lock lock(engine().mutex);
  return stream->capture != nullptr;
}

}  // namespace

cudaError_t launch(const cudaLaunchConfig_t& config, const void* function, std::function<void()> body) {
  const dim3 b = config.gridDim;
  const dim3 t = config.blockDim;
  if (b.x == 0 || b.y == 0 || b.z == 0 || b.x > 0x7fffffff || b.y > 65535 || b.z > 65535 ||
      uint64_t{t.x} * t.y * t.z == 0 || uint64_t{t.x} * t.y * t.z > 1024 || t.z > 64)
    return result(cudaErrorInvalidConfiguration);
  const cudaError_t submitted = submit(config.stream, Kernel{function, b, t, std::move(body)});
  if (submitted != cudaSuccess || !settings().blocks || capturing(config.stream)) return submitted;
  return synchronize(config.stream);
}

cudaError_t submit(cudaStream_t stream, std::string what, std::function<void()> body) {
  return submit(stream, Call{std::move(what), std::move(body)});
}

}  // namespace software_cuda

using namespace software_cuda;

cudaError_t cudaGetLastError() {
  return std::exchange(last_error, cudaSuccess);
}

cudaError_t cudaGetDevice(int* device) {
  *device = current_device();
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= settings().devices) return result(cudaErrorInvalidDevice);
  device_of_thread = device;
  return cudaSuccess;
}
