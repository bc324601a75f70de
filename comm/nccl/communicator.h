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

/// A non-blocking NCCL communicator of a group of ranks and what watches over it. Calls return before NCCL is
/// done with them; each is waited for with the group's deadline, so that a rank that is gone makes an Error
/// and not a hang.
///
/// A thread asks NCCL for asynchronous errors and the device for the operations' ends; when something failed
/// or is late, it stops NCCL's kernels and ends the world through the control plane, with one message.
class NcclCommunicator {
 public:
  /// Collective over `control`, which outlives this; on the device of `compute`.
  NcclCommunicator(Collective& control, const Stream& compute, const DeviceCollectiveOptions& options);
  /// The part of `parent` that `control` is: all ranks of `parent` call it, those with color < 0 with a null
  /// control, and get nothing.
  static std::unique_ptr<NcclCommunicator> split(NcclCommunicator& parent, Collective* control, int color,
                                                 int key);
  /// Ends in order when all operations are done; aborts while an exception is under way.
  ~NcclCommunicator();
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  [[nodiscard]] const DeviceCollectiveOptions& options() const noexcept;
  [[nodiscard]] const Stream& compute() const noexcept;

  /// Calls `operation(communicator)` as one group (ncclGroupStart, ncclGroupEnd) on the group's device, waits
  /// until NCCL has given it to `stream`, and watches for its end there. `what` names it in messages.
  void run(std::string what, const Stream& stream, FunctionRef<ncclResult_t(ncclComm_t)> operation);

  /// Makes NCCL use the tensor's memory directly where it can; keeps the tensor until the end. Collective.
  void use_memory(const Tensor& tensor);

  /// Stops NCCL's kernels; nothing else works afterwards.
  void abort() noexcept;

 private:
  struct State;
  explicit NcclCommunicator(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace tutti
