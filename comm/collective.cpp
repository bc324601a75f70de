#include <tutti/comm/collective.h>

namespace tutti {

std::string_view name(Reduce op) {
  switch (op) {
    case Reduce::kSum:
      return "sum";
    case Reduce::kMax:
      return "max";
    case Reduce::kMin:
      return "min";
  }
  return "unknown";
}

namespace {

/// Runs `work(executor)` on the stream. Its captures are kept until then; the stream handle may be destroyed
/// earlier, but not its pool.
template <class Executor, class Work>
void run_on(const Stream& stream, Work work) {
  if (stream.device().type == DeviceType::kCuda) return work(Executor{.pool = nullptr, .cuda = &stream});
  stream.run(
      [work = std::move(work), pool = &stream.pool()] { work(Executor{.pool = pool, .cuda = nullptr}); });
}

}  // namespace

Stream Collective::communication_stream(const Stream& compute) const {
  // With one rank there is nothing to wait for, so sums use all threads.
  return size() > 1 ? Stream::queued("tutti-comm") : compute;
}

void Collective::check(std::string_view op, const Tensor& tensor, const Stream& stream) const {
  require(tensor.defined(), "{}: rank {} gave an undefined tensor", op, rank());
  require(tensor.contiguous(), "{}: rank {} gave a tensor of shape {} and strides {} that is not contiguous",
          op, rank(), to_string(tensor.shape()), to_string(tensor.strides()));
  require(supports(tensor.device().type),
          "{}: rank {} gave a tensor on {}, which this backend does not support", op, rank(),
          name(tensor.device()));
  require(stream.device().type == DeviceType::kCpu || stream.device() == tensor.device(),
          "{}: rank {} gave a tensor on {} and a stream of {}", op, rank(), name(tensor.device()),
          name(stream.device()));
}

void Collective::check_peer(std::string_view op, int peer) const {
  require(peer >= 0 && peer < size() && peer != rank(), "{}: rank {} named rank {} of a group of {}", op,
          rank(), peer, size());
}

void Collective::check_parts(std::string_view op, const Tensor& whole, const Tensor& part,
                             const Stream& stream) const {
  check(op, whole, stream);
  check(op, part, stream);
  require(whole.device() == part.device() && whole.dtype() == part.dtype(),
          "{}: rank {} mixes {} on {} and {} on {}", op, rank(), name(whole.dtype()), name(whole.device()),
          name(part.dtype()), name(part.device()));
  require(whole.numel() == part.numel() * size(), "{}: rank {} has {} elements and parts of {} for {} ranks",
          op, rank(), whole.numel(), part.numel(), size());
}

void Collective::all_reduce(const Tensor& inout, Reduce op, const Stream& stream) {
  check("all_reduce", inout, stream);
  run_on<Executor>(stream,
                   [this, inout, op](const Executor& executor) { on_all_reduce(inout, op, executor); });
}

void Collective::reduce_scatter(const Tensor& output, const Tensor& input, Reduce op, const Stream& stream) {
  check_parts("reduce_scatter", input, output, stream);
  run_on<Executor>(stream, [this, output, input, op](const Executor& executor) {
    on_reduce_scatter(output, input, op, executor);
  });
}

void Collective::all_gather(const Tensor& output, const Tensor& input, const Stream& stream) {
  check_parts("all_gather", output, input, stream);
  run_on<Executor>(
      stream, [this, output, input](const Executor& executor) { on_all_gather(output, input, executor); });
}

void Collective::all_to_all(const Tensor& output, const Tensor& input, const Stream& stream) {
  check("all_to_all", output, stream);
  check("all_to_all", input, stream);
  require(output.dtype() == input.dtype() && output.device() == input.device() &&
              output.numel() == input.numel() && input.numel() % size() == 0,
          "all_to_all: rank {} has {} elements of {} in and {} of {} out for {} ranks", rank(), input.numel(),
          name(input.dtype()), output.numel(), name(output.dtype()), size());
  run_on<Executor>(
      stream, [this, output, input](const Executor& executor) { on_all_to_all(output, input, executor); });
}

void Collective::broadcast(const Tensor& inout, int root, const Stream& stream) {
  check("broadcast", inout, stream);
  require(root >= 0 && root < size(), "broadcast: rank {} named root {} of a group of {}", rank(), root,
          size());
  run_on<Executor>(stream,
                   [this, inout, root](const Executor& executor) { on_broadcast(inout, root, executor); });
}

void Collective::send(const Tensor& tensor, int to, const Stream& stream) {
  check("send", tensor, stream);
  check_peer("send", to);
  run_on<Executor>(stream, [this, tensor, to](const Executor& executor) { on_send(tensor, to, executor); });
}

void Collective::recv(const Tensor& tensor, int from, const Stream& stream) {
  check("recv", tensor, stream);
  check_peer("recv", from);
  run_on<Executor>(stream,
                   [this, tensor, from](const Executor& executor) { on_recv(tensor, from, executor); });
}

void Collective::barrier(const Stream& stream) {
  run_on<Executor>(stream, [this](const Executor& executor) { on_barrier(executor); });
}

std::unique_ptr<Collective> Collective::split(int color, int key) {
  return on_split(color, key);
}

Tensor Collective::allocate(const Shape& shape, DType dtype, const Stream& stream) {
  return Tensor::empty(shape, dtype, stream);
}

}  // namespace tutti
