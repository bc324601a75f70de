#pragma once

#include <tutti/comm/collective.h>

#include <memory>

namespace tutti {

/// Makes a backend for tensors of the CPU take tensors of a CUDA device: they go through page-locked buffers
/// in chunks, whose copies run beside the exchange of other chunks (comm/staging.h). So any MPI will do, and
/// several ranks may share a GPU. The bits are those of the backend for the CPU.
///
/// Tensors of the CPU go to `world`'s backend as they are. Operations make the host wait: they belong on a
/// queued stream, which first waits for an event of the stream that computes the tensor. On a CUDA stream
/// they work too and block the caller.
///
/// `world` outlives the result. Collective: all ranks of `world` call it.
std::unique_ptr<Collective> make_staged_collective(Collective& world, const Stream& compute);

}  // namespace tutti
