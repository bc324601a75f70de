#pragma once

#include <tutti/core/tensor.h>

#include <cstdint>
#include <memory>
#include <string_view>

namespace tutti {

/// How contributions of ranks are combined, element by element.
///
/// All three follow one fixed tree over the ranks: neighbours first, ((r0+r1)+(r2+r3))+... A number of ranks
/// that is not a power of two is the next larger tree without its missing leaves: (r0+r1)+r2 for three,
/// ((r0+r1)+(r2+r3))+((r4+r5)+r6) for seven. The left operand is always that of the lower ranks. Each
/// addition is rounded to the tensor's dtype; bf16 and fp16 are added in fp32 and rounded. The bits of a
/// result therefore depend only on the contributions: they are equal on all ranks and for all backends
/// (except the payload of a NaN). Integers wrap around.
enum class Reduce : uint8_t {
  kSum,
  kMax,  ///< NaN if any contribution is NaN
  kMin,  ///< NaN if any contribution is NaN
};
std::string_view name(Reduce op);

/// A group of ranks that communicate. Every rank of the group calls the same functions in the same order with
/// equal dtypes and sizes.
///
/// Tensors are contiguous, on a device that supports() accepts, and of any dtype and size (also above 2^31
/// elements); they give the element counts. Operations follow the order of `stream`: on an inline stream they
/// are complete on return, on a queued stream they run later and their errors are thrown at the next wait, on
/// a CUDA stream they are enqueued like a kernel. They keep their tensors alive; the Collective itself must
/// outlive the queued work. Use one Collective on one stream at a time, and split() for a second stream.
///
/// Functions throw Error on misuse, when another rank aborted, and, on at least one rank, when the arguments
/// of ranks do not match; that exception then ends the world like any other.
class Collective {
 public:
  Collective() = default;
  virtual ~Collective() = default;
  Collective(const Collective&) = delete;
  Collective& operator=(const Collective&) = delete;

  [[nodiscard]] virtual int rank() const noexcept = 0;
  [[nodiscard]] virtual int size() const noexcept = 0;
  /// Whether tensors may be on such a device. Default: the CPU only.
  [[nodiscard]] virtual bool supports(DeviceType device) const noexcept { return device == DeviceType::kCpu; }
  /// A stream for operations that run concurrently with the work of `compute`.
  [[nodiscard]] virtual Stream communication_stream(const Stream& compute) const;

  /// inout = the reduction of all ranks' inout.
  void all_reduce(const Tensor& inout, Reduce op, const Stream& stream);
  /// output (k elements) = this rank's part of the reduction of all ranks' input (size() * k elements).
  /// `output` may be that part of `input`; otherwise they do not overlap.
  void reduce_scatter(const Tensor& output, const Tensor& input, Reduce op, const Stream& stream);
  /// output (size() * k elements) = all ranks' input (k elements) by rank.
  /// `input` may be this rank's part of `output`; otherwise they do not overlap.
  void all_gather(const Tensor& output, const Tensor& input, const Stream& stream);
  /// Part j of output = part rank() of rank j's input; both have size() equal parts and do not overlap.
  void all_to_all(const Tensor& output, const Tensor& input, const Stream& stream);
  /// inout = inout of rank `root`.
  void broadcast(const Tensor& inout, int root, const Stream& stream);
  /// Completes when the tensor may be overwritten; may wait for the receiver. Messages between two ranks are
  /// received in the order of sending.
  void send(const Tensor& tensor, int to, const Stream& stream);
  /// The matching send must have the same size. `from` and `to` must not be the rank itself.
  void recv(const Tensor& tensor, int from, const Stream& stream);
  /// Completes when all ranks have called it.
  void barrier(const Stream& stream);

  /// A new group of the ranks that passed the same `color` >= 0, ordered by (key, rank); nullptr if color is
  /// negative. All ranks must call it, while this process has no other communication pending. Blocks.
  [[nodiscard]] std::unique_ptr<Collective> split(int color, int key);

  /// An uninitialised tensor in the memory that this group reduces fastest (shared with the other ranks of
  /// the node), or else in ordinary memory. All ranks must call it with the same arguments and free the
  /// tensor before the world ends. Blocks.
  [[nodiscard]] virtual Tensor allocate(const Shape& shape, DType dtype, const Stream& stream);

  /// Aborts all ranks of the world at any point of their work; they need not call anything. `reason` is
  /// logged once.
  virtual void abort(std::string_view reason) noexcept = 0;

 protected:
  /// What executes an operation: the part of its stream that a backend may use.
  struct Executor {
    ThreadPool* pool = nullptr;    ///< for parallel loops; null on a CUDA stream
    const Stream* cuda = nullptr;  ///< the CUDA stream to enqueue to; null on streams of the CPU
  };

  // Implemented by backends. Arguments have been checked; calls are made on the stream's thread, in its
  // order.
  virtual void on_all_reduce(const Tensor& inout, Reduce op, const Executor& executor) = 0;
  virtual void on_reduce_scatter(const Tensor& output, const Tensor& input, Reduce op,
                                 const Executor& executor) = 0;
  virtual void on_all_gather(const Tensor& output, const Tensor& input, const Executor& executor) = 0;
  virtual void on_all_to_all(const Tensor& output, const Tensor& input, const Executor& executor) = 0;
  virtual void on_broadcast(const Tensor& inout, int root, const Executor& executor) = 0;
  virtual void on_send(const Tensor& tensor, int to, const Executor& executor) = 0;
  virtual void on_recv(const Tensor& tensor, int from, const Executor& executor) = 0;
  virtual void on_barrier(const Executor& executor) = 0;
  virtual std::unique_ptr<Collective> on_split(int color, int key) = 0;

 private:
  void check(std::string_view op, const Tensor& tensor, const Stream& stream) const;
  void check_peer(std::string_view op, int peer) const;
  void check_parts(std::string_view op, const Tensor& whole, const Tensor& part, const Stream& stream) const;
};

/// A world of one rank: nothing is sent.
std::unique_ptr<Collective> make_self_collective();

}  // namespace tutti
