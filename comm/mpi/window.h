#pragma once

#include "comm/mpi/session.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
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

  /// Bytes of the part of this rank that no memory has been found for yet: a file in a tmpfs takes space page
  /// by page, when each is first written.
  [[nodiscard]] int64_t untouched_bytes() const;

  /// Collective, on the MPI thread: gives the memory back. Called by the session.
  void release();

 private:
  struct Window;
  SharedWindow();
  std::unique_ptr<Window> window_;
  std::vector<std::span<std::byte>> parts_;
  size_t me_ = 0;
};

/// The folder in which the MPI library keeps memory that processes share.
std::string shared_memory_folder();

/// Bytes that can be had there; the largest number where that cannot be told. An MPI library itself looks on
/// one rank only, or not at all: others then wait for that one for ever, or die by SIGBUS when they write.
int64_t free_shared_memory_bytes();

/// Free bytes that windows of `bytes` on each of `ranks` take, with what MPI adds of its own.
int64_t needed_shared_memory_bytes(int64_t bytes, int64_t ranks);

}  // namespace tutti
