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
  /// Pretends that a node holds at most this many ranks, to try the way between nodes on one machine; 0: as
  /// it is.
  int ranks_per_node = 0;
  /// What messages on stderr begin with.
  std::string program = "tutti";
};

/// This process's place in the MPI world. One thread, started here, makes every MPI call from initialisation
/// to finalisation; others post work to it. Messages are non-blocking and polled, so that a rank that waits
/// leaves its core to others and can be aborted.
///
/// If the program has initialised MPI itself, with MPI_THREAD_MULTIPLE, the session works beside it and does
/// not finalise it. Constructor and destructor are collective over all ranks. A session that ends while an
/// exception is under way aborts all ranks: the others would wait for ever.
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
    enum class Way : uint8_t { kSend, kReceive };
    Way way;
    int peer;
    int tag;
    std::span<std::byte> memory;
  };

  /// Messages under way. Wait before their memory is touched or freed; the destructor waits too.
  class Transfer {
   public:
    Transfer() = default;
    ~Transfer();
    Transfer(Transfer&&) noexcept = default;
    Transfer& operator=(Transfer&&) noexcept = default;
    Transfer(const Transfer&) = delete;
    Transfer& operator=(const Transfer&) = delete;
    /// Throws Error if a message failed or had another size than expected.
    void wait();

    struct State;

   private:
    friend class MpiSession;
    std::shared_ptr<State> state_;
  };
  [[nodiscard]] Transfer start(std::span<const Message> messages);
  void exchange(std::span<const Message> messages) { start(messages).wait(); }

  /// Runs `call` on the MPI thread and waits for it. For calls that MPI offers in a blocking form only; all
  /// ranks that take part must be about to make it.
  void run(const std::function<void(const MpiHandles&)>& call);

  /// A number for a new group's messages that no earlier group of this process has. The ranks of a group use
  /// the largest of their proposals.
  [[nodiscard]] int64_t propose_context() const noexcept;
  void use_context(int64_t context) noexcept;

  /// Keeps a window until the session ends: freeing is collective and must not depend on when each rank
  /// destroys its tensors.
  void keep(std::shared_ptr<SharedWindow> window);
  /// Bytes of this rank's parts of them that take no space so far, and will.
  [[nodiscard]] int64_t untouched_window_bytes() const;
  /// Says on stderr, once in a session, that reductions on this host go without them.
  void say_shared_memory_is_short(int64_t free_bytes, int64_t needed_bytes);

  /// Logs `reason`, as this rank's unless all ranks share it, and ends all ranks of the world with exit code
  /// 1; does not return normally.
  enum class Reason { kOfThisRank, kOfAllRanks };
  void abort(std::string_view reason, Reason whose = Reason::kOfThisRank) noexcept;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
  int exceptions_at_start_ = 0;
};

}  // namespace tutti
