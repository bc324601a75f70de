#include "comm/mpi/session.h"
#include "comm/mpi/backoff.h"
#include "comm/mpi/handles.h"
#include "comm/mpi/window.h"
#include "core/memory/out_of_memory.h"
#include "core/start_thread.h"

#include <pthread.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#if defined(OPEN_MPI) && OMPI_MAJOR_VERSION <= 5
#  define TUTTI_QUIET_ABORT
// Called by Open MPI's MPI_Abort after it has printed some lines; not in mpi.h, hence weak.
extern "C" __attribute__((weak)) int ompi_mpi_abort(MPI_Comm world, int exit_code);
#endif

namespace tutti {
namespace {

// Size of a piece of a message: counts are far below INT_MAX, and a long message makes steady progress.
constexpr int64_t kMessagePieceBytes = int64_t{1} << 22;
constexpr std::chrono::seconds kAbortTimeout{2};

/// Ends the processes of all ranks without further output on stderr, as far as the MPI library allows. Aborts
/// MPI_COMM_WORLD: for a duplicate, MPICH does not end the other ranks immediately.
void end_all_ranks(int exit_code) {
#ifdef TUTTI_QUIET_ABORT
  if (ompi_mpi_abort != nullptr) (void)ompi_mpi_abort(MPI_COMM_WORLD, exit_code);
#endif
  (void)MPI_Abort(MPI_COMM_WORLD, exit_code);
}

/// Waits until the launcher at the other end of stderr has read all of it, for at most a second: some
/// (MPICH's mpiexec) discard unread output of a rank that aborts the world.
void wait_until_read() {
  using std::chrono::milliseconds;
  int unread = 1;
  for (int tries = 0; tries < 100 && ioctl(STDERR_FILENO, FIONREAD, &unread) == 0 && unread > 0; ++tries)
    std::this_thread::sleep_for(milliseconds(10));
  std::this_thread::sleep_for(milliseconds(50));  // for forwarding from there to mpirun
}

}  // namespace

struct MpiSession::Transfer::State {
  std::atomic<int> left{1};  // pending pieces, plus one while they are being started
  std::mutex mutex;
  std::string error;

  void set_error(const std::string& text) {
    const std::scoped_lock lock(mutex);
    if (error.empty()) error = text;
  }
  void finish_one() {
    if (left.fetch_sub(1, std::memory_order_acq_rel) == 1) left.notify_all();
  }
  void wait_until_done() {
    for (int spins = 0; spins < 200; ++spins) {
      if (left.load(std::memory_order_acquire) == 0) return;
    }
    for (int now = left.load(std::memory_order_acquire); now != 0;
         now = left.load(std::memory_order_acquire)) {
      left.wait(now, std::memory_order_acquire);
    }
  }
};

MpiSession::Transfer::~Transfer() {
  if (state_) state_->wait_until_done();
}

void MpiSession::Transfer::wait() {
  if (!state_) return;
  const std::shared_ptr<State> state = std::exchange(state_, nullptr);
  state->wait_until_done();
  require(state->error.empty(), "{}", state->error);
}

struct MpiSession::Impl {
  struct Job {
    std::vector<Message> messages;
    std::shared_ptr<Transfer::State> transfer;
    std::function<void()> call;  // instead of messages
  };
  struct Piece {
    std::shared_ptr<Transfer::State> transfer;
    Message message;  // memory: the piece
  };

  MpiOptions options;
  MpiHandles handles;
  bool owns_mpi = false;
  int rank = 0;
  int size = 1;
  int max_tag = 32767;
  std::vector<int> node_of_rank;
  std::atomic<int64_t> next_context{0};
  bool warned_low_shared_memory = false;

  std::mutex mutex;
  std::vector<std::shared_ptr<SharedWindow>> windows;
  std::condition_variable changed;
  std::deque<Job> jobs;
  bool stop = false;
  std::thread thread;

  // Accessed only by the MPI thread.
  std::vector<MPI_Request> requests;
  std::vector<Piece> pieces;
  std::vector<int> finished;
  std::vector<MPI_Status> statuses;

  void begin() {
    int initialised = 0;
    check_mpi(MPI_Initialized(&initialised), "MPI_Initialized");
    int level = MPI_THREAD_SINGLE;
    if (initialised == 0) {
      // This thread becomes MPI's main thread, so that "funneled" is enough.
      check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &level), "MPI_Init_thread");
      owns_mpi = true;
      require(level >= MPI_THREAD_FUNNELED, "this MPI library does not support threads (level {})", level);
    } else {
      check_mpi(MPI_Query_thread(&level), "MPI_Query_thread");
      require(level == MPI_THREAD_MULTIPLE,
              "the program has initialised MPI with thread level {}; Tutti needs MPI_THREAD_MULTIPLE ({}), "
              "or must initialise MPI itself",
              level, static_cast<int>(MPI_THREAD_MULTIPLE));
    }
    check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &handles.world), "MPI_Comm_dup");
    check_mpi(MPI_Comm_set_errhandler(handles.world, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    check_mpi(MPI_Comm_rank(handles.world, &rank), "MPI_Comm_rank");
    check_mpi(MPI_Comm_size(handles.world, &size), "MPI_Comm_size");
    int* bound = nullptr;
    int found = 0;
    check_mpi(MPI_Comm_get_attr(handles.world, MPI_TAG_UB, static_cast<void*>(&bound), &found),
              "MPI_Comm_get_attr");
    if (found != 0) max_tag = *bound;
    find_nodes();
  }

  void find_nodes() {
    MPI_Comm node = MPI_COMM_NULL;
    check_mpi(MPI_Comm_split_type(handles.world, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &node),
              "MPI_Comm_split_type");
    int local = 0;
    int local_size = 1;
    check_mpi(MPI_Comm_rank(node, &local), "MPI_Comm_rank");
    check_mpi(MPI_Comm_size(node, &local_size), "MPI_Comm_size");
    std::vector<int> neighbours(static_cast<size_t>(local_size));
    check_mpi(MPI_Allgather(&rank, 1, MPI_INT, neighbours.data(), 1, MPI_INT, node), "MPI_Allgather");
    const int first =
        options.ranks_per_node > 0 ? local / options.ranks_per_node * options.ranks_per_node : 0;
    const int mine = neighbours[static_cast<size_t>(first)];
    node_of_rank.resize(static_cast<size_t>(size));
    check_mpi(MPI_Allgather(&mine, 1, MPI_INT, node_of_rank.data(), 1, MPI_INT, handles.world),
              "MPI_Allgather");
    check_mpi(MPI_Comm_free(&node), "MPI_Comm_free");
  }

  void end() {
    // All ranks are here: collective objects are freed collectively, in the order of their creation.
    check_mpi(MPI_Barrier(handles.world), "MPI_Barrier");
    for (const auto& window : windows) window->release();
    windows.clear();
    check_mpi(MPI_Comm_free(&handles.world), "MPI_Comm_free");
    if (owns_mpi) check_mpi(MPI_Finalize(), "MPI_Finalize");
  }

  void run_loop() {
    Backoff backoff;
    while (true) {
      std::deque<Job> taken;
      {
        std::unique_lock lock(mutex);
        if (requests.empty()) {
          changed.wait(lock, [&] { return stop || !jobs.empty(); });
          if (jobs.empty()) return;
        } else if (const auto pause = backoff.pause(); pause.count() > 0) {
          changed.wait_for(lock, pause, [&] { return !jobs.empty(); });
        }
        taken.swap(jobs);
      }
      if (!taken.empty()) backoff.reset();
      for (Job& job : taken) begin_job(job);
      if (poll()) backoff.reset();
    }
  }

  void begin_job(Job& job) {
    try {
      if (job.call) job.call();
      for (const Message& message : job.messages) begin_message(message, job.transfer);
    } catch (const std::exception& error) {
      job.transfer->set_error(error_text(error));
    }
    job.transfer->finish_one();
  }

  void begin_message(const Message& message, const std::shared_ptr<Transfer::State>& transfer) {
    const auto total = static_cast<int64_t>(message.memory.size());
    for (int64_t at = 0; at == 0 || at < total; at += kMessagePieceBytes) {
      const auto bytes = static_cast<int>(std::min(kMessagePieceBytes, total - at));
      std::byte* data = message.memory.data() + at;
      MPI_Request request = MPI_REQUEST_NULL;
      if (message.direction == Message::Direction::kSend) {
        check_mpi(MPI_Isend(data, bytes, MPI_BYTE, message.peer, message.tag, handles.world, &request),
                  "MPI_Isend");
      } else {
        check_mpi(MPI_Irecv(data, bytes, MPI_BYTE, message.peer, message.tag, handles.world, &request),
                  "MPI_Irecv");
      }
      transfer->left.fetch_add(1, std::memory_order_relaxed);
      requests.push_back(request);
      pieces.push_back(
          {transfer, {message.direction, message.peer, message.tag, {data, static_cast<size_t>(bytes)}}});
    }
  }

  /// True if a piece was finished.
  bool poll() {
    if (requests.empty()) return false;
    finished.resize(requests.size());
    statuses.resize(requests.size());
    int count = 0;
    const int code = MPI_Testsome(static_cast<int>(requests.size()), requests.data(), &count, finished.data(),
                                  statuses.data());
    if (code != MPI_SUCCESS && code != MPI_ERR_IN_STATUS) {
      fail_all(code);
      return true;
    }
    if (count <= 0 || count == MPI_UNDEFINED) return false;
    for (int i = 0; i < count; ++i) {
      const auto n = static_cast<size_t>(i);
      finish_piece(pieces[static_cast<size_t>(finished[n])], statuses[n],
                   code == MPI_ERR_IN_STATUS ? statuses[n].MPI_ERROR : MPI_SUCCESS);
    }
    // MPI has set finished requests to null.
    size_t kept = 0;
    for (size_t i = 0; i < requests.size(); ++i) {
      if (requests[i] == MPI_REQUEST_NULL) continue;
      if (kept != i) {
        requests[kept] = requests[i];
        pieces[kept] = std::move(pieces[i]);
      }
      ++kept;
    }
    requests.resize(kept);
    pieces.resize(kept);
    return true;
  }

  void finish_piece(const Piece& piece, const MPI_Status& status, int code) {
    const Message& m = piece.message;
    try {
      if (m.direction == Message::Direction::kReceive) {
        check_mpi(code,
                  fmt::format("rank {}: receiving {} bytes from rank {}", rank, m.memory.size(), m.peer));
        int bytes = 0;
        check_mpi(MPI_Get_count(&status, MPI_BYTE, &bytes), "MPI_Get_count");
        require(
            static_cast<size_t>(bytes) == m.memory.size(),
            "rank {} expected {} bytes from rank {} and got {}: do all ranks call the same operations with "
            "equal sizes?",
            rank, m.memory.size(), m.peer, bytes);
      } else {
        check_mpi(code, fmt::format("rank {}: sending {} bytes to rank {}", rank, m.memory.size(), m.peer));
      }
    } catch (const std::exception& error) {
      piece.transfer->set_error(error_text(error));
    }
    piece.transfer->finish_one();
  }

  void fail_all(int code) {
    for (const Piece& piece : pieces) {
      try {
        check_mpi(code, "MPI_Testsome");
      } catch (const std::exception& error) {
        piece.transfer->set_error(error_text(error));
      }
      piece.transfer->finish_one();
    }
    requests.clear();
    pieces.clear();
  }

  void push(Job job) {
    const std::scoped_lock lock(mutex);
    jobs.push_back(std::move(job));
    changed.notify_all();
  }

  void run(std::function<void()> call) {
    Transfer transfer;
    transfer.state_ = std::make_shared<Transfer::State>();
    push({.messages = {}, .transfer = transfer.state_, .call = std::move(call)});
    transfer.wait();
  }

  void stop_thread() {
    {
      const std::scoped_lock lock(mutex);
      stop = true;
      changed.notify_all();
    }
    thread.join();
  }
};

MpiSession::MpiSession(const MpiOptions& options)
    : impl_(std::make_unique<Impl>()), exceptions_at_start_(std::uncaught_exceptions()) {
  impl_->options = options;
  impl_->thread = start_thread("MPI", [raw = impl_.get()] { raw->run_loop(); });
  // The name is only for debuggers: a failure has no consequence.
  (void)pthread_setname_np(impl_->thread.native_handle(), "tutti-mpi");
  try {
    impl_->run([raw = impl_.get()] { raw->begin(); });
  } catch (...) {
    impl_->stop_thread();
    throw;
  }
}

MpiSession::~MpiSession() {
  if (std::uncaught_exceptions() > exceptions_at_start_) {
    abort("an exception was thrown in the MPI session");
  }
  try {
    impl_->run([raw = impl_.get()] { raw->end(); });
  } catch (const std::exception& error) {
    (void)std::fprintf(stderr, "%s: rank %d: finalising MPI: %s\n", impl_->options.program.c_str(),
                       impl_->rank, error.what());
  }
  impl_->stop_thread();
}

int MpiSession::rank() const noexcept {
  return impl_->rank;
}
int MpiSession::size() const noexcept {
  return impl_->size;
}
const std::vector<int>& MpiSession::node_of_rank() const noexcept {
  return impl_->node_of_rank;
}
int MpiSession::max_tag() const noexcept {
  return impl_->max_tag;
}

MpiSession::Transfer MpiSession::start(std::span<const Message> messages) {
  Transfer transfer;
  transfer.state_ = std::make_shared<Transfer::State>();
  impl_->push({.messages = {messages.begin(), messages.end()}, .transfer = transfer.state_, .call = {}});
  return transfer;
}

void MpiSession::run(const std::function<void(const MpiHandles&)>& call) {
  impl_->run([this, &call] { call(impl_->handles); });
}

int64_t MpiSession::propose_context() const noexcept {
  return impl_->next_context.load();
}

void MpiSession::use_context(int64_t context) noexcept {
  impl_->next_context.store(std::max(impl_->next_context.load(), context + 1));
}

void MpiSession::keep(std::shared_ptr<SharedWindow> window) {
  const std::scoped_lock lock(impl_->mutex);
  impl_->windows.push_back(std::move(window));
}

int64_t MpiSession::untouched_window_bytes() const {
  const std::scoped_lock lock(impl_->mutex);
  int64_t bytes = 0;
  for (const auto& window : impl_->windows) bytes += window->untouched_bytes();
  return bytes;
}

void MpiSession::warn_low_shared_memory(int64_t free_bytes, int64_t needed_bytes) {
  if (std::exchange(impl_->warned_low_shared_memory, true)) return;
  constexpr double kMiB = 1 << 20;
  std::array<char, 256> host{};
  (void)gethostname(host.data(), host.size() - 1);
  (void)std::fprintf(
      stderr,
      "tutti: %s on %s has %.0f MiB free, shared windows need %.0f MiB: reductions among its ranks do not "
      "use them, which is slower, with the same bits. Use --shm-size to give a container more\n",
      shared_memory_folder().c_str(), host.data(),
      static_cast<double>(std::max<int64_t>(0, free_bytes)) / kMiB, static_cast<double>(needed_bytes) / kMiB);
}

void MpiSession::abort(std::string_view reason, Reason whose) noexcept {
  constexpr int kExitCode = 1;
  const int length = static_cast<int>(reason.size());
  const char* const program = impl_->options.program.c_str();
  if (whose == Reason::kOfAllRanks)
    (void)std::fprintf(stderr, "%s: %.*s\n", program, length, reason.data());
  else
    (void)std::fprintf(stderr, "%s: rank %d: %.*s\n", program, impl_->rank, length, reason.data());
  (void)std::fflush(stderr);
  wait_until_read();
  try {
    Impl::Job job{.messages = {}, .transfer = std::make_shared<Transfer::State>(), .call = {}};
    job.call = [] { end_all_ranks(kExitCode); };
    {
      const std::scoped_lock lock(impl_->mutex);
      impl_->jobs.push_front(std::move(job));
      impl_->changed.notify_all();
    }
    std::this_thread::sleep_for(kAbortTimeout);
  } catch (const std::exception&) {
    // Out of memory, for example: continue with the direct call.
  }
  // The MPI thread hangs inside MPI. A call by a second thread violates the thread level, but the process
  // ends anyway.
  end_all_ranks(kExitCode);
  _exit(kExitCode);  // not exit(), which may wait for threads
}

}  // namespace tutti
