#include "comm/nccl/communicator.h"

#include <tutti/comm/peers.h>
#include "core/cuda/runtime.h"
#include "core/start_thread.h"

#include <array>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

namespace tutti {
namespace {

constexpr double kPollInterval = 0.02;  // seconds between two polls of the watchdog thread

[[noreturn]] void fail_as(ncclResult_t result, std::string_view what, ncclComm_t comm,
                          std::source_location where = std::source_location::current()) {
  if (result == ncclUnhandledCudaError) cuda::check_device(fmt::format("NCCL: {}", what), where);
  const char* const detail = ncclGetLastError(comm);
  throw Error(fmt::format("NCCL: {} failed: {}{}{}", what, ncclGetErrorString(result),
                          detail != nullptr && *detail != '\0' ? ": " : "", detail != nullptr ? detail : ""),
              where);
}

void check(ncclResult_t result, std::string_view what) {
  if (result != ncclSuccess) fail_as(result, what, nullptr);
}

ncclConfig_t make_config(const DeviceCollectiveOptions& options) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  if (options.max_ctas > 0) config.maxCTAs = options.max_ctas;
  return config;
}

/// Broadcasts a new identifier from rank 0.
ncclUniqueId agree_on_id(Collective& control) {
  CollectivePeers peers(control);
  ncclUniqueId id{};
  peers.agree([&] {
    if (control.rank() == 0) check(ncclGetUniqueId(&id), "ncclGetUniqueId");
  });
  const std::string bytes = peers.broadcast(std::string(id.internal, sizeof id.internal));
  std::memcpy(id.internal, bytes.data(), sizeof id.internal);
  return id;
}

}  // namespace

struct NcclCommunicator::State {
  State(Collective& control_plane, const Stream& compute_stream, const DeviceCollectiveOptions& how)
      : control(&control_plane), compute(compute_stream), options(how), watchdog(how.timeout_s) {}

  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    stop_polling();
    stop_kernels();
  }

  Collective* control;
  Stream compute;
  DeviceCollectiveOptions options;
  std::vector<std::pair<Tensor, void*>> registered;
  int exceptions_at_start = std::uncaught_exceptions();

  // Locked during each call of NCCL: the owner's thread and the poll thread may not use a communicator at
  // once.
  std::mutex calls;
  ncclComm_t comm = nullptr;
  bool aborted = false;

  std::mutex mutex;
  std::condition_variable changed;
  bool stop = false;
  OperationWatchdog watchdog;
  std::deque<Event> ends;  // of the operations in `watchdog`
  std::thread poll_thread;

  /// Calls `use(comm)` as the only thread. Throws Error after an abort.
  template <class Use>
  auto call(std::string_view what, Use use) {
    const std::scoped_lock lock(calls);
    require(!aborted, "NCCL: {} after the group was aborted", what);
    return use(comm);
  }

  /// Of asynchronous calls. Called with `calls` locked.
  [[nodiscard]] ncclResult_t progress() const {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(comm, &state);
    return asked != ncclSuccess ? asked : state;
  }

  /// Waits until an asynchronous call has ended. The poll thread may call NCCL between two polls of this one.
  void finish(ncclResult_t result, std::string_view what) {
    if (result != ncclSuccess && result != ncclInProgress) fail_as(result, what, comm);
    const CallState end = wait_until_done(
        [&] {
          result = call(what, [&](ncclComm_t) { return progress(); });
          return result == ncclInProgress ? CallState::kPending
                 : result == ncclSuccess  ? CallState::kDone
                                          : CallState::kFailed;
        },
        options.timeout_s, steady_clock());
    if (end == CallState::kFailed) fail_as(result, what, comm);
    require(end != CallState::kTimedOut,
            "NCCL: {} timed out after {:g} s in a group of {} ranks; NCCL_DEBUG=INFO shows where", what,
            options.timeout_s, control->size());
  }

  void start_polling() {
    poll_thread = start_thread("NCCL", [this] { poll_loop(); });
  }

  void poll_loop() {
    const cuda::UseDevice use(compute.device().index);
    std::unique_lock lock(mutex);
    while (!changed.wait_for(lock, std::chrono::duration<double>(kPollInterval), [&] { return stop; })) {
      const std::string problem = check_state();
      if (problem.empty()) continue;
      lock.unlock();
      stop_kernels();
      control->abort(problem);
      return;
    }
  }

  /// The error, or empty. Called with the mutex locked.
  std::string check_state() {
    try {
      while (!ends.empty() && ends.front().done()) {
        ends.pop_front();
        watchdog.ended(steady_clock().now_s());
      }
    } catch (const std::exception& error) {
      return fmt::format("NCCL: {} or a kernel before it: {}", watchdog.oldest(), error.what());
    }
    ncclResult_t state = ncclSuccess;
    {
      const std::scoped_lock alone(calls);
      if (!aborted) state = progress();
    }
    if (state != ncclSuccess && state != ncclInProgress) {
      return fmt::format("NCCL: {}: {}", watchdog.idle() ? "between operations" : watchdog.oldest(),
                         ncclGetErrorString(state));
    }
    std::string late = watchdog.overdue(steady_clock().now_s());
    return late.empty() ? late : "NCCL: " + late;
  }

  void stop_polling() {
    if (!poll_thread.joinable()) return;
    {
      const std::scoped_lock lock(mutex);
      stop = true;
      changed.notify_all();
    }
    poll_thread.join();
  }

  void stop_kernels() noexcept {
    const std::scoped_lock lock(calls);
    if (comm != nullptr && !std::exchange(aborted, true)) (void)ncclCommAbort(comm);
  }

  /// Whether the stream is being captured; its events cannot be queried during a capture.
  [[nodiscard]] static bool capturing(const Stream& stream) {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    cuda::check(cudaStreamIsCapturing(cuda::native(stream), &status), "cudaStreamIsCapturing");
    return status != cudaStreamCaptureStatusNone;
  }
};

NcclCommunicator::NcclCommunicator(std::unique_ptr<State> state) : state_(std::move(state)) {}

NcclCommunicator::NcclCommunicator(Collective& control, const Stream& compute,
                                   const DeviceCollectiveOptions& options)
    : state_(std::make_unique<State>(control, compute, options)) {
  State& s = *state_;
  const ncclUniqueId id = agree_on_id(control);
  const cuda::UseDevice use(compute.device().index);
  ncclConfig_t config = make_config(options);
  s.finish(ncclCommInitRankConfig(&s.comm, control.size(), id, control.rank(), &config),
           "creating a communicator");
  s.start_polling();
}

std::unique_ptr<NcclCommunicator> NcclCommunicator::split(NcclCommunicator& parent, Collective* control,
                                                          int color, int key) {
  State& p = *parent.state_;
  const cuda::UseDevice use(p.compute.device().index);
  ncclConfig_t config = make_config(p.options);
  ncclComm_t part = nullptr;
  std::unique_ptr<State> state;
  if (control != nullptr) state = std::make_unique<State>(*control, p.compute, p.options);
  constexpr std::string_view kWhat = "splitting a communicator";
  const ncclResult_t result = p.call(kWhat, [&](ncclComm_t comm) {
    return ncclCommSplit(comm, color < 0 ? NCCL_SPLIT_NOCOLOR : color, key, &part, &config);
  });
  if (state != nullptr) state->comm = part;
  p.finish(result, kWhat);
  if (state == nullptr) return nullptr;
  state->finish(ncclSuccess, "creating a part of a communicator");
  state->start_polling();
  return std::unique_ptr<NcclCommunicator>(new NcclCommunicator(std::move(state)));
}

NcclCommunicator::~NcclCommunicator() {
  State& s = *state_;
  s.stop_polling();
  // Finalising would wait for other ranks, which may have exited or may hang: the state aborts.
  if (std::uncaught_exceptions() > s.exceptions_at_start) return;
  try {
    const cuda::UseDevice use(s.compute.device().index);
    constexpr std::string_view kWhat = "finalising a communicator";
    s.finish(s.call(kWhat,
                    [&](ncclComm_t comm) {
                      for (const auto& [tensor, handle] : s.registered)
                        (void)ncclCommDeregister(comm, handle);
                      return ncclCommFinalize(comm);
                    }),
             kWhat);
    (void)s.call(kWhat, [&](ncclComm_t) { return ncclCommDestroy(std::exchange(s.comm, nullptr)); });
  } catch (const std::exception&) {  // as above
  }
}

const DeviceCollectiveOptions& NcclCommunicator::options() const noexcept {
  return state_->options;
}

const Stream& NcclCommunicator::compute() const noexcept {
  return state_->compute;
}

void NcclCommunicator::run(std::string what, const Stream& stream,
                           FunctionRef<ncclResult_t(ncclComm_t)> operation) {
  State& s = *state_;
  const cuda::UseDevice use(stream.device().index);
  ncclResult_t given = ncclSuccess;
  const ncclResult_t ended = s.call(what, [&](ncclComm_t comm) {
    check(ncclGroupStart(), "ncclGroupStart");
    given = operation(comm);
    return ncclGroupEnd();
  });
  // An error of the operation itself is the cause; ncclGroupEnd then returns a less specific one.
  const bool refused = given != ncclSuccess && given != ncclInProgress;
  s.finish(refused ? given : ended, what);
  if (State::capturing(stream)) return;
  Event end = stream.record();
  const std::scoped_lock lock(s.mutex);
  (void)s.watchdog.issued(std::move(what), steady_clock().now_s());
  s.ends.push_back(std::move(end));
}

void NcclCommunicator::use_memory(const Tensor& tensor) {
  State& s = *state_;
  const cuda::UseDevice use(s.compute.device().index);
  void* handle = nullptr;
  const ncclResult_t result = s.call("registering memory", [&](ncclComm_t comm) {
    return ncclCommRegister(comm, tensor.raw(), static_cast<size_t>(tensor.bytes()), &handle);
  });
  // Transports without support for registration return an error; operations then copy from and to the memory.
  if (result != ncclSuccess && result != ncclInProgress) return;
  s.finish(result, "registering memory");
  if (handle != nullptr) s.registered.emplace_back(tensor, handle);
}

void NcclCommunicator::abort() noexcept {
  state_->stop_kernels();
}

}  // namespace tutti
