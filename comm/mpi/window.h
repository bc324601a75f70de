#pragma once

#include "comm/mpi/session.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace tutti {

/// Memory shared by ranks of one node, from MPI_Win_allocate_shared. Loads and stores are ordered by atomics
/// in the memory itself, which the unified memory model of the standard allows.
class SharedWindow {
 public:
  /// Collective over `ranks` (world ranks in the order of the group), whose MPI threads must have no other
  /// blocking call to make. Each rank contributes `bytes`, page-aligned. Returns nullptr on all ranks if the
  /// allocation fails on any of them.
  static std::shared_ptr<SharedWindow> make(MpiSession& session, const std::vector<int>& ranks, int tag,
                                            int64_t bytes);
  ~SharedWindow();
  SharedWindow(const SharedWindow&) = delete;
  SharedWindow& operator=(const SharedWindow&) = delete;

  /// The part that rank `i` of the group contributed, in this process's address space.
  [[nodiscard]] std::span<std::byte> part(int i) const { return parts_[static_cast<size_t>(i)]; }

  /// Bytes of this rank's part that are not allocated yet: a tmpfs allocates each page when it is first
  /// written.
  [[nodiscard]] int64_t untouched_bytes() const;

  /// Collective, on the MPI thread: frees the memory. Called by the session.
  void release();

 private:
  struct Window;
  SharedWindow();
  std::unique_ptr<Window> window_;
  std::vector<std::span<std::byte>> parts_;
  size_t me_ = 0;
};

/// The directory in which the MPI library allocates shared memory.
std::string shared_memory_folder();

/// Bytes available there; the largest number if unknown. MPI libraries check on one rank only, or not at all:
/// other ranks then wait for it forever, or are killed by SIGBUS when they write.
int64_t free_shared_memory_bytes();

/// Bytes that windows of `bytes` on each of `ranks` need, including the overhead of MPI.
int64_t needed_shared_memory_bytes(int64_t bytes, int64_t ranks);

}  // namespace tutti
