#pragma once

#include <tutti/comm/collective.h>
#include <tutti/core/function_ref.h>
#include "comm/deadline.h"
#include "comm/device_collective.h"

#include <nccl.h>

#include <memory>
#include <source_location>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// A non-blocking NCCL communicator of a group of ranks with a watchdog. NCCL's calls return before they are
/// complete; each is waited for with the time-out of the group, so that a lost rank causes an Error and not a
/// hang.
///
/// A thread polls NCCL for asynchronous errors and the device for completed operations; on a failure or
/// time-out, it stops NCCL's kernels and ends the world through the control plane, with one message.
class NcclCommunicator {
 public:
  /// Collective over `control`, which outlives this object; on the device of `compute`.
  NcclCommunicator(Collective& control, const Stream& compute, const DeviceCollectiveOptions& options);
  /// The part of `parent` with the ranks of `control`. All ranks of `parent` call it; those with color < 0
  /// pass a null control and get nullptr.
  static std::unique_ptr<NcclCommunicator> split(NcclCommunicator& parent, Collective* control, int color,
                                                 int key);
  /// Finalises after all operations are complete; aborts during stack unwinding.
  ~NcclCommunicator();
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  [[nodiscard]] const DeviceCollectiveOptions& options() const noexcept;
  [[nodiscard]] const Stream& compute() const noexcept;

  /// Calls `operation(communicator)` as one group (ncclGroupStart, ncclGroupEnd) on the group's device, waits
  /// until NCCL has enqueued it on `stream`, and monitors its completion. `what` names it in messages.
  void run(std::string what, const Stream& stream, FunctionRef<ncclResult_t(ncclComm_t)> operation);

  /// Registers the tensor's memory with NCCL if possible; keeps the tensor until the end. Collective.
  void use_memory(const Tensor& tensor);

  /// Stops NCCL's kernels; the communicator cannot be used afterwards.
  void abort() noexcept;

 private:
  struct State;
  explicit NcclCommunicator(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace tutti
