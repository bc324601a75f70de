// NCCL between processes of one machine, through shared memory: non-blocking communicators, groups, splits
// and aborts by NCCL's contract. What a program may not do is answered with a message and the end of the
// process.
#include "nccl.h"

#include "tests/device/engine.h"
#include "tests/device/memory.h"
#include "tests/device/nccl_elements.h"
#include "tests/device/settings.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <random>
#include <thread>

namespace software_cuda {
namespace {

constexpr size_t kBuffer = size_t{32} << 10;  // bytes on the way from one rank to another
constexpr int kMostRanks = 16;

/// A queue of bytes from one rank to another.
struct Channel {
  std::atomic<uint64_t> written;
  std::atomic<uint64_t> read;
  std::byte bytes[kBuffer];
};

struct Ticket {
  std::atomic<uint64_t> published;  // splits that this rank has come to
  std::atomic<uint64_t> taken;      // splits of which it has read all tickets
  int color;
  int key;
};

/// Memory that the ranks of a communicator share; zero at first.
struct Shared {
  std::atomic<int> arrived;
  Ticket tickets[kMostRanks];
  Channel channels[];  // (from, to)
};
static_assert(std::atomic<uint64_t>::is_always_lock_free);

[[noreturn]] void misuse(const std::string& what) {
  const std::string text = fmt::format("software device: NCCL: {}\n", what);
  (void)!write(STDERR_FILENO, text.data(), text.size());
  std::abort();
}

}  // namespace
}  // namespace software_cuda

using namespace software_cuda;

struct ncclComm {
  std::string name;
  int rank = 0;
  int ranks = 0;
  Shared* shared = nullptr;
  std::atomic<ncclResult_t> state = ncclInProgress;
  std::atomic<bool> aborted = false;
  std::thread work;  // of the last call that goes on after it returned
  uint64_t splits = 0;
  uint64_t issued = 0;                  // operations, in the order of calls
  std::atomic<uint64_t> completed = 0;  // they run in that order
  std::atomic<std::thread::id> user{};  // the thread that is in a call

  Channel& channel(int from, int to) const { return shared->channels[from * ranks + to]; }
  [[nodiscard]] size_t bytes() const {
    return sizeof(Shared) + static_cast<size_t>(ranks) * static_cast<size_t>(ranks) * sizeof(Channel);
  }
};

namespace software_cuda {
namespace {

/// One thread at a time may use a communicator.
class Use {
 public:
  explicit Use(ncclComm_t comm) : comm_(*comm) {
    std::thread::id nobody{};
    if (!comm_.user.compare_exchange_strong(nobody, std::this_thread::get_id()))
      misuse("two threads use a communicator at once");
  }
  ~Use() { comm_.user = std::thread::id(); }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;

 private:
  ncclComm& comm_;
};

void nap() {
  std::this_thread::sleep_for(std::chrono::microseconds(200));
}

/// Waits for a condition of other ranks; false after an abort.
template <class Condition>
bool await(const ncclComm& comm, Condition condition) {
  while (!condition()) {
    if (comm.aborted) return false;
    nap();
  }
  return true;
}

ncclResult_t attach(ncclComm& comm) {
  const int file = shm_open(comm.name.c_str(), O_CREAT | O_RDWR, 0600);
  if (file < 0 || ftruncate(file, static_cast<off_t>(comm.bytes())) != 0) return ncclSystemError;
  void* const memory = mmap(nullptr, comm.bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  (void)close(file);
  if (memory == MAP_FAILED) return ncclSystemError;
  comm.shared = static_cast<Shared*>(memory);
  ++comm.shared->arrived;
  const bool all = await(comm, [&] { return comm.shared->arrived == comm.ranks; });
  if (comm.rank == 0) (void)shm_unlink(comm.name.c_str());
  return all ? ncclSuccess : ncclInternalError;
}

/// Continues a call on a thread of its own, as NCCL does without `blocking`.
template <class Body>
void go_on(ncclComm& comm, Body body) {
  comm.state = ncclInProgress;
  if (comm.work.joinable()) comm.work.join();
  comm.work = std::thread([&comm, body] { comm.state = body(); });
}

/// A transfer of a group, with what is left of it.
struct Transfer {
  bool sends;
  int peer;
  std::byte* at;
  size_t left;
};

/// What one group submits to one stream.
struct Operation {
  ncclComm_t comm = nullptr;
  uint64_t index = 0;
  std::vector<Transfer> transfers;
  std::vector<Polled::Range> ranges;
  std::vector<std::shared_ptr<std::vector<std::byte>>> buffers;  // of received contributions
  std::vector<std::function<void()>> before;                     // when the operation begins
  std::vector<std::function<void()>> after;                      // when all has been received
  bool begun = false;

  void send(int peer, const void* from, size_t bytes) {
    transfers.push_back({true, peer, static_cast<std::byte*>(const_cast<void*>(from)), bytes});
  }
  void receive(int peer, void* to, size_t bytes) {
    transfers.push_back({false, peer, static_cast<std::byte*>(to), bytes});
  }

  /// Moves what can be moved now. Returns whether all is done.
  bool advance() {
    if (comm->aborted) return true;
    if (comm->completed != index || settings().fails("nccl")) return false;
    if (!begun) {
      begun = true;
      for (const auto& f : before) f();
    }
    // The transfers of a pair of ranks are in the order of the calls.
    uint64_t blocked_sends = 0;
    uint64_t blocked_receives = 0;
    bool left = false;
    for (Transfer& t : transfers) {
      uint64_t& blocked = t.sends ? blocked_sends : blocked_receives;
      if (t.left == 0) continue;
      if ((blocked >> t.peer & 1U) == 0) move(t);
      if (t.left == 0) continue;
      left = true;
      blocked |= uint64_t{1} << t.peer;
    }
    if (left) return false;
    for (const auto& f : after) f();
    ++comm->completed;
    return true;
  }

  void move(Transfer& t) const {
    Channel& channel = t.sends ? comm->channel(comm->rank, t.peer) : comm->channel(t.peer, comm->rank);
    while (t.left > 0) {
      const uint64_t written = channel.written.load(std::memory_order_acquire);
      const uint64_t read = channel.read.load(std::memory_order_acquire);
      const uint64_t from = t.sends ? written : read;
      const uint64_t can = t.sends ? kBuffer - (written - read) : written - read;
      const size_t bytes = std::min<size_t>({t.left, can, kBuffer - from % kBuffer});
      if (bytes == 0) return;
      std::byte* const at = channel.bytes + from % kBuffer;
      t.sends ? std::memcpy(at, t.at, bytes) : std::memcpy(t.at, at, bytes);
      (t.sends ? channel.written : channel.read).store(from + bytes, std::memory_order_release);
      t.at += bytes;
      t.left -= bytes;
    }
  }
};

struct Submitted {
  cudaStream_t stream;
  std::shared_ptr<Operation> operation;
};

/// The group of a thread.
struct Group {
  int depth = 0;
  std::vector<Submitted> parts;  // one for each communicator and stream
};
thread_local Group group;

Operation& part_of_group(ncclComm_t comm, cudaStream_t stream) {
  for (const Submitted& part : group.parts) {
    if (part.operation->comm == comm && part.stream == stream) return *part.operation;
  }
  group.parts.push_back({stream, std::make_shared<Operation>()});
  group.parts.back().operation->comm = comm;
  return *group.parts.back().operation;
}

/// Adds a call to the thread's group, or to a group of its own.
template <class Add>
ncclResult_t call(ncclComm_t comm, cudaStream_t stream, std::initializer_list<Polled::Range> memory,
                  Add add) {
  const Use use(comm);
  if (comm->state != ncclSuccess)
    return comm->state == ncclInProgress ? ncclInvalidUsage : comm->state.load();
  for (const Polled::Range& range : memory) {
    if (place_of(range.memory, range.bytes) != Place::kDevice) return ncclInvalidArgument;
  }
  const bool alone = group.depth == 0;
  if (alone) (void)ncclGroupStart();
  Operation& operation = part_of_group(comm, stream);
  operation.ranges.insert(operation.ranges.end(), memory);
  add(operation);
  return alone ? ncclGroupEnd() : ncclSuccess;
}

Polled::Range reads(const void* memory, size_t bytes) {
  return {memory, bytes, race::Kind::kRead};
}
Polled::Range writes(const void* memory, size_t bytes) {
  return {memory, bytes, race::Kind::kWrite};
}

/// Elements [begin, end) of `count` that the ring adds last at rank r.
std::pair<size_t, size_t> ring_part(size_t count, int r, int ranks) {
  const auto n = static_cast<size_t>(ranks);
  const auto i = static_cast<size_t>(r);
  return {count * i / n, count * (i + 1) / n};
}

/// Sends `count` elements of this rank to all others, and calls `use` with the contributions of all.
void exchange_all(Operation& o, const void* from, size_t bytes,
                  std::function<void(const std::vector<const std::byte*>&)> use) {
  const ncclComm& comm = *o.comm;
  // The input may be the output.
  const auto mine = std::make_shared<std::vector<std::byte>>(bytes);
  std::vector<const std::byte*> all(static_cast<size_t>(comm.ranks));
  o.before.push_back([mine, from, bytes] { std::memcpy(mine->data(), from, bytes); });
  o.buffers.push_back(mine);
  for (int r = 0; r < comm.ranks; ++r) {
    if (r == comm.rank) {
      all[static_cast<size_t>(r)] = mine->data();
      continue;
    }
    const auto theirs = std::make_shared<std::vector<std::byte>>(bytes);
    o.buffers.push_back(theirs);
    all[static_cast<size_t>(r)] = theirs->data();
    o.send(r, mine->data(), bytes);
    o.receive(r, theirs->data(), bytes);
  }
  o.after.push_back([all = std::move(all), use = std::move(use)] { use(all); });
}

}  // namespace
}  // namespace software_cuda

const char* ncclGetLastError(ncclComm_t) {
  return "";
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  std::random_device random;
  (void)std::snprintf(id->internal, sizeof id->internal, "/tutti-nccl-%d-%08x%08x",
                      static_cast<int>(getpid()), random(), random());
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  if (config->blocking != 0) misuse("this stand-in has only non-blocking communicators");
  if (ranks < 1 || ranks > kMostRanks || rank < 0 || rank >= ranks) return ncclInvalidArgument;
  auto* const made = new ncclComm{.name = id.internal, .rank = rank, .ranks = ranks};
  *comm = made;
  go_on(*made, [made] { return attach(*made); });
  return ncclInProgress;
}

ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t* part, ncclConfig_t*) {
  const Use use(comm);
  if (comm->state != ncclSuccess) return ncclInvalidUsage;
  *part = nullptr;
  ncclComm* const made = color == NCCL_SPLIT_NOCOLOR ? nullptr : new ncclComm;
  *part = made;
  const uint64_t number = ++comm->splits;
  go_on(*comm, [comm, color, key, made, number] {
    Ticket* const tickets = comm->shared->tickets;
    Ticket& mine = tickets[comm->rank];
    mine.color = color;
    mine.key = key;
    mine.published = number;
    std::vector<std::pair<int, int>> members;  // (key, rank)
    for (int r = 0; r < comm->ranks; ++r) {
      if (!await(*comm, [&] { return tickets[r].published >= number; })) return ncclInternalError;
      if (tickets[r].color == color) members.emplace_back(tickets[r].key, r);
    }
    // Until all have read them, no ticket is written again.
    mine.taken = number;
    for (int r = 0; r < comm->ranks; ++r) {
      if (!await(*comm, [&] { return tickets[r].taken >= number; })) return ncclInternalError;
    }
    if (made == nullptr) return ncclSuccess;
    std::sort(members.begin(), members.end());
    made->name = fmt::format("{}-{}-{}", comm->name, number, color);
    made->ranks = static_cast<int>(members.size());
    made->rank = static_cast<int>(
        std::find_if(members.begin(), members.end(), [&](const auto& m) { return m.second == comm->rank; }) -
        members.begin());
    go_on(*made, [made] { return attach(*made); });
    return ncclSuccess;
  });
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  const Use use(comm);
  *state = comm->state;
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  const Use use(comm);
  if (comm->state != ncclSuccess) return ncclInvalidUsage;
  go_on(*comm, [comm, issued = comm->issued] {
    return await(*comm, [&] { return comm->completed == issued; }) ? ncclSuccess : ncclInternalError;
  });
  return ncclInProgress;
}

namespace {

void destroy(ncclComm_t comm) {
  if (comm->work.joinable()) comm->work.join();
  if (comm->shared != nullptr) (void)munmap(comm->shared, comm->bytes());
  delete comm;
}

}  // namespace

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  {
    const Use use(comm);
    if (comm->completed != comm->issued)
      misuse("a communicator is destroyed before its operations have ended");
  }
  destroy(comm);
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  {
    const Use use(comm);
    comm->aborted = true;
  }
  // Its operations return at the next turn of the device.
  if (comm->work.joinable()) comm->work.join();
  return ncclSuccess;
}

ncclResult_t ncclCommRegister(ncclComm_t comm, void* memory, size_t bytes, void** handle) {
  const Use use(comm);
  if (place_of(memory, bytes) != Place::kDevice) return ncclInvalidArgument;
  *handle = memory;
  return ncclSuccess;
}

ncclResult_t ncclCommDeregister(ncclComm_t comm, void* handle) {
  const Use use(comm);
  return handle == nullptr ? ncclInvalidArgument : ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++group.depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (group.depth == 0) return ncclInvalidUsage;
  if (--group.depth > 0) return ncclSuccess;
  ncclResult_t result = ncclSuccess;
  for (const Submitted& part : std::exchange(group.parts, {})) {
    const std::shared_ptr<Operation> operation = part.operation;
    // Each replay of a graph is an operation of its own.
    const auto begin = [operation]() -> std::function<bool()> {
      const auto running = std::make_shared<Operation>(*operation);
      running->index = running->comm->issued++;
      return [running] { return running->advance(); };
    };
    if (submit(part.stream, Polled{"NCCL", operation->ranges, begin, {}}) != cudaSuccess)
      result = ncclUnhandledCudaError;
  }
  return result;
}

ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type, ncclRedOp_t,
                           ncclComm_t comm, cudaStream_t stream) {
  const size_t bytes = count * size_of(type);
  return call(comm, stream, {reads(from, bytes), writes(to, bytes)}, [&](Operation& o) {
    exchange_all(o, from, bytes, [=, ranks = comm->ranks](const std::vector<const std::byte*>& all) {
      for (int r = 0; r < ranks; ++r) {
        const auto [begin, end] = ring_part(count, r, ranks);
        const size_t at = begin * size_of(type);
        auto* const out = static_cast<std::byte*>(to) + at;
        for (int i = 1; i <= ranks; ++i) {
          const std::byte* const part = all[static_cast<size_t>((r + i) % ranks)] + at;
          if (i == 1)
            std::memcpy(out, part, (end - begin) * size_of(type));
          else
            add(out, part, end - begin, type);
        }
      }
    });
  });
}

ncclResult_t ncclReduceScatter(const void* from, void* to, size_t count, ncclDataType_t type, ncclRedOp_t,
                               ncclComm_t comm, cudaStream_t stream) {
  const size_t part = count * size_of(type);
  const size_t bytes = part * static_cast<size_t>(comm->ranks);
  return call(comm, stream, {reads(from, bytes), writes(to, part)}, [&](Operation& o) {
    exchange_all(o, from, bytes,
                 [=, ranks = comm->ranks, rank = comm->rank](const std::vector<const std::byte*>& all) {
                   auto* const out = static_cast<std::byte*>(to);
                   for (int i = 1; i <= ranks; ++i) {
                     const std::byte* const theirs =
                         all[static_cast<size_t>((rank + i) % ranks)] + part * static_cast<size_t>(rank);
                     if (i == 1)
                       std::memcpy(out, theirs, part);
                     else
                       add(out, theirs, count, type);
                   }
                 });
  });
}

ncclResult_t ncclAllGather(const void* from, void* to, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  const size_t bytes = count * size_of(type);
  return call(comm, stream, {reads(from, bytes), writes(to, bytes * static_cast<size_t>(comm->ranks))},
              [&](Operation& o) {
                exchange_all(o, from, bytes, [=](const std::vector<const std::byte*>& all) {
                  for (size_t r = 0; r < all.size(); ++r)
                    std::memcpy(static_cast<std::byte*>(to) + r * bytes, all[r], bytes);
                });
              });
}

ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  const size_t bytes = count * size_of(type);
  return call(comm, stream, {writes(to, bytes)}, [&](Operation& o) {
    if (comm->rank != root) return o.receive(root, to, bytes);
    for (int r = 0; r < comm->ranks; ++r) {
      if (r != root) o.send(r, from, bytes);
    }
    o.after.push_back([=] { std::memmove(to, from, bytes); });
  });
}

ncclResult_t ncclSend(const void* from, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  const size_t bytes = count * size_of(type);
  if (peer < 0 || peer >= comm->ranks) return ncclInvalidArgument;
  return call(comm, stream, {reads(from, bytes)}, [&](Operation& o) { o.send(peer, from, bytes); });
}

ncclResult_t ncclRecv(void* to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  const size_t bytes = count * size_of(type);
  if (peer < 0 || peer >= comm->ranks) return ncclInvalidArgument;
  return call(comm, stream, {writes(to, bytes)}, [&](Operation& o) { o.receive(peer, to, bytes); });
}
