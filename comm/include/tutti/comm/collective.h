#pragma once

#include <tutti/core/tensor.h>

#include <cstdint>
#include <memory>
#include <string_view>

namespace tutti {

/// How contributions of ranks are combined, element by element.
///
/// All three follow one fixed tree over the ranks: neighbours first, ((r0+r1)+(r2+r3))+... A number of ranks
/// that is not a power of two is the next larger tree with its missing leaves cut off: (r0+r1)+r2 for three,
/// ((r0+r1)+(r2+r3))+((r4+r5)+r6) for seven. The left operand is always the one of the lower ranks. Each
/// single addition is rounded to the tensor's dtype; bf16 and fp16 are added in fp32 and rounded. So the bits
/// of a result depend on the contributions alone: they are equal on all ranks and for all backends (the
/// payload of a NaN excepted). Integers wrap around.
enum class Reduce : uint8_t {
  kSum,
  kMax,  ///< NaN if any contribution is NaN
  kMin,  ///< NaN if any contribution is NaN
};
std::string_view name(Reduce op);

/// A group of ranks that communicate. Every rank of the group calls the same functions in the same order with
/// equal dtypes and sizes.
///
/// Tensors are contiguous, where takes() says, of any dtype and any size (beyond 2^31 elements too); element
/// counts come from them. Operations follow the order of `stream`: on an inline stream they are complete on
/// return, on a queued stream they run later and their errors surface at the next wait, on a CUDA stream they
/// are work of the device like a kernel. They keep their tensors alive; the Collective itself must outlive
/// the queued work. One Collective serves one stream at a time; use split() for a second one.
///
/// Functions throw Error on misuse, when another rank aborted, and when ranks disagree about an operation (on
/// one of them at least; it then ends the world as any exception does).
class Collective {
 public:
  Collective() = default;
  virtual ~Collective() = default;
  Collective(const Collective&) = delete;
  Collective& operator=(const Collective&) = delete;

  [[nodiscard]] virtual int rank() const noexcept = 0;
  [[nodiscard]] virtual int size() const noexcept = 0;
  /// Whether tensors may be on such a device. The CPU alone unless a backend says otherwise.
  [[nodiscard]] virtual bool takes(DeviceType device) const noexcept { return device == DeviceType::kCpu; }
  /// A stream for operations that run beside the work of `compute`.
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
  /// Completes when the tensor may be written again; may wait for the receiver. Messages between two ranks
  /// keep their order.
  void send(const Tensor& tensor, int to, const Stream& stream);
  /// The matching send has the same size. `from` and `to` are never the rank itself.
  void recv(const Tensor& tensor, int from, const Stream& stream);
  /// Completes when all ranks have come here.
  void barrier(const Stream& stream);

  /// A new group of the ranks that gave the same `color` >= 0, ordered by (key, rank); nullptr where color is
  /// negative. All ranks call it; no other communication of this process is under way. Blocks.
  [[nodiscard]] std::unique_ptr<Collective> split(int color, int key);

  /// An uninitialised tensor in memory that this group reduces fastest (shared with the other ranks of the
  /// node); ordinary memory where there is nothing better. All ranks call it with the same arguments. It is
  /// gone before the world ends. Blocks.
  [[nodiscard]] virtual Tensor allocate(const Shape& shape, DType dtype, const Stream& stream);

  /// Ends the work of all ranks of the world, wherever they are; they need not call anything. `reason` is
  /// logged once.
  virtual void abort(std::string_view reason) noexcept = 0;

 protected:
  /// What a backend may use of the stream that an operation was given.
  struct Place {
    ThreadPool* pool = nullptr;    ///< for parallel loops; null on a CUDA stream
    const Stream* cuda = nullptr;  ///< the CUDA stream to give the work to; null on streams of the CPU
  };

  // What a backend implements. Arguments are checked; the calls come from the stream's thread, in its order.
  virtual void on_all_reduce(const Tensor& inout, Reduce op, const Place& place) = 0;
  virtual void on_reduce_scatter(const Tensor& output, const Tensor& input, Reduce op,
                                 const Place& place) = 0;
  virtual void on_all_gather(const Tensor& output, const Tensor& input, const Place& place) = 0;
  virtual void on_all_to_all(const Tensor& output, const Tensor& input, const Place& place) = 0;
  virtual void on_broadcast(const Tensor& inout, int root, const Place& place) = 0;
  virtual void on_send(const Tensor& tensor, int to, const Place& place) = 0;
  virtual void on_recv(const Tensor& tensor, int from, const Place& place) = 0;
  virtual void on_barrier(const Place& place) = 0;
  virtual std::unique_ptr<Collective> on_split(int color, int key) = 0;

 private:
  void check(std::string_view op, const Tensor& tensor, const Stream& stream) const;
  void check_peer(std::string_view op, int peer) const;
  void check_parts(std::string_view op, const Tensor& whole, const Tensor& part, const Stream& stream) const;
};

/// A world of one: nothing is sent.
std::unique_ptr<Collective> make_self_collective();

}  // namespace tutti
