#pragma once

#include <tutti/comm/collective.h>

#include <memory>

namespace tutti {

/// Extends a CPU backend to tensors of a CUDA device: they are copied through page-locked buffers in chunks,
/// overlapped with the exchange of other chunks (comm/staging.h). It works with any MPI, and several ranks
/// may share a GPU. The bits are those of the CPU backend.
///
/// Tensors of the CPU are passed to the backend of `world` unchanged. Operations block the host: use a queued
/// stream that first waits for an event of the stream that computes the tensor. On a CUDA stream they block
/// the caller.
///
/// `world` outlives the result. Collective: all ranks of `world` call it.
std::unique_ptr<Collective> make_staged_collective(Collective& world, const Stream& compute);

}  // namespace tutti
