#pragma once

#include <tutti/comm/mpi/session.h>

#include <memory>
#include <span>
#include <vector>

namespace tutti {

/// Memory of ranks on one node that all of them see, from MPI_Win_allocate_shared. Loads and stores are
/// ordered by atomics in the memory itself, which the standard's unified memory model allows.
class SharedWindow {
 public:
  /// Collective over `ranks` (world ranks, ascending order of the group), whose MPI threads must have no
  /// other blocking call to make. Each rank contributes `bytes`, page-aligned. Returns nullptr on all ranks
  /// if any of them cannot have the memory.
  static std::shared_ptr<SharedWindow> make(MpiSession& session, const std::vector<int>& ranks, int tag,
                                            int64_t bytes);
  ~SharedWindow();
  SharedWindow(const SharedWindow&) = delete;
  SharedWindow& operator=(const SharedWindow&) = delete;

  /// The part that rank `i` of the group contributed, in this process's address space.
  [[nodiscard]] std::span<std::byte> part(int i) const { return parts_[static_cast<size_t>(i)]; }

  /// Collective, on the MPI thread: gives the memory back. Called by the session.
  void release();

 private:
  struct Window;
  SharedWindow();
  std::unique_ptr<Window> window_;
  std::vector<std::span<std::byte>> parts_;
};

}  // namespace tutti
