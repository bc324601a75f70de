#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

struct MpiHandles;   // comm/mpi/handles.h, for files that include mpi.h
class SharedWindow;  // comm/mpi/window.h

struct MpiOptions {
  /// Simulates nodes with at most this many ranks, to test communication between nodes on one machine; 0: the
  /// actual nodes.
  int ranks_per_node = 0;
  /// Prefix of messages on stderr.
  std::string program = "tutti";
};

/// The MPI world as seen by this process. One thread, started here, makes every MPI call from initialisation
/// to finalisation; others post work to it. Messages are non-blocking and polled, so that a waiting rank does
/// not occupy its core and can be aborted.
///
/// If the program has initialised MPI itself, with MPI_THREAD_MULTIPLE, the session uses it and does not
/// finalise it. Constructor and destructor are collective over all ranks. A session that is destroyed during
/// stack unwinding aborts all ranks: the others would wait forever.
class MpiSession {
 public:
  explicit MpiSession(const MpiOptions& options = {});
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  [[nodiscard]] int rank() const noexcept;
  [[nodiscard]] int size() const noexcept;
  /// The first rank on the same node, for each rank.
  [[nodiscard]] const std::vector<int>& node_of_rank() const noexcept;
  /// Largest tag that MPI allows.
  [[nodiscard]] int max_tag() const noexcept;

  /// One message of any size; messages with equal ranks and tag are received in the order of sending.
  struct Message {
    enum class Direction : uint8_t { kSend, kReceive };
    Direction direction;
    int peer;
    int tag;
    std::span<std::byte> memory;
  };

  /// Pending messages. Wait before their memory is accessed or freed; the destructor waits too.
  class Transfer {
   public:
    Transfer() = default;
    ~Transfer();
    Transfer(Transfer&&) noexcept = default;
    Transfer& operator=(Transfer&&) noexcept = default;
    Transfer(const Transfer&) = delete;
    Transfer& operator=(const Transfer&) = delete;
    /// Throws Error if a message failed or did not have the expected size.
    void wait();

    struct State;

   private:
    friend class MpiSession;
    std::shared_ptr<State> state_;
  };
  [[nodiscard]] Transfer start(std::span<const Message> messages);
  void exchange(std::span<const Message> messages) { start(messages).wait(); }

  /// Runs `call` on the MPI thread and waits for it. For calls that MPI has only in a blocking form; all
  /// participating ranks must make the call without waiting for others first.
  void run(const std::function<void(const MpiHandles&)>& call);

  /// A number for the messages of a new group that no earlier group of this process has. The ranks of a group
  /// use the largest of their proposals.
  [[nodiscard]] int64_t propose_context() const noexcept;
  void use_context(int64_t context) noexcept;

  /// Keeps a window until the session ends: freeing is collective and must not depend on the time at which
  /// each rank destroys its tensors.
  void keep(std::shared_ptr<SharedWindow> window);
  /// Bytes of this rank's parts of all windows that are reserved but not yet allocated.
  [[nodiscard]] int64_t untouched_window_bytes() const;
  /// Warns on stderr, once per session, that reductions on this host do not use shared windows.
  void warn_low_shared_memory(int64_t free_bytes, int64_t needed_bytes);

  /// Logs `reason`, with the rank unless all ranks share it, and ends all ranks of the world with exit code
  /// 1; does not return normally.
  enum class Reason { kOfThisRank, kOfAllRanks };
  void abort(std::string_view reason, Reason whose = Reason::kOfThisRank) noexcept;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
  int exceptions_at_start_ = 0;
};

}  // namespace tutti
