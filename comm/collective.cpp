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

void Collective::check(std::string_view op, const Tensor& tensor) const {
  require(tensor.defined(), "{}: rank {} gave an undefined tensor", op, rank());
  require(tensor.contiguous(), "{}: rank {} gave a tensor of shape {} and strides {} that is not contiguous",
          op, rank(), to_string(tensor.shape()), to_string(tensor.strides()));
  require(tensor.device().type == DeviceType::kCpu,
          "{}: rank {} gave a tensor on {}, this backend is for cpu", op, rank(), name(tensor.device()));
}

void Collective::check_peer(std::string_view op, int peer) const {
  require(peer >= 0 && peer < size() && peer != rank(), "{}: rank {} named rank {} of a group of {}", op,
          rank(), peer, size());
}

void Collective::check_parts(std::string_view op, const Tensor& whole, const Tensor& part) const {
  check(op, whole);
  check(op, part);
  require(whole.dtype() == part.dtype(), "{}: rank {} mixes {} and {}", op, rank(), name(whole.dtype()),
          name(part.dtype()));
  require(whole.numel() == part.numel() * size(), "{}: rank {} has {} elements and parts of {} for {} ranks",
          op, rank(), whole.numel(), part.numel(), size());
}

void Collective::all_reduce(const Tensor& inout, Reduce op, const Stream& stream) {
  check("all_reduce", inout);
  stream.run([this, inout, op, &pool = stream.pool()] { on_all_reduce(inout, op, pool); });
}

void Collective::reduce_scatter(const Tensor& output, const Tensor& input, Reduce op, const Stream& stream) {
  check_parts("reduce_scatter", input, output);
  stream.run(
      [this, output, input, op, &pool = stream.pool()] { on_reduce_scatter(output, input, op, pool); });
}

void Collective::all_gather(const Tensor& output, const Tensor& input, const Stream& stream) {
  check_parts("all_gather", output, input);
  stream.run([this, output, input] { on_all_gather(output, input); });
}

void Collective::all_to_all(const Tensor& output, const Tensor& input, const Stream& stream) {
  check("all_to_all", output);
  check("all_to_all", input);
  require(output.dtype() == input.dtype() && output.numel() == input.numel() && input.numel() % size() == 0,
          "all_to_all: rank {} has {} elements of {} in and {} of {} out for {} ranks", rank(), input.numel(),
          name(input.dtype()), output.numel(), name(output.dtype()), size());
  stream.run([this, output, input] { on_all_to_all(output, input); });
}

void Collective::broadcast(const Tensor& inout, int root, const Stream& stream) {
  check("broadcast", inout);
  require(root >= 0 && root < size(), "broadcast: rank {} named root {} of a group of {}", rank(), root,
          size());
  stream.run([this, inout, root] { on_broadcast(inout, root); });
}

void Collective::send(const Tensor& tensor, int to, const Stream& stream) {
  check("send", tensor);
  check_peer("send", to);
  stream.run([this, tensor, to] { on_send(tensor, to); });
}

void Collective::recv(const Tensor& tensor, int from, const Stream& stream) {
  check("recv", tensor);
  check_peer("recv", from);
  stream.run([this, tensor, from] { on_recv(tensor, from); });
}

void Collective::barrier(const Stream& stream) {
  stream.run([this] { on_barrier(); });
}

std::unique_ptr<Collective> Collective::split(int color, int key) {
  return on_split(color, key);
}

Tensor Collective::allocate(const Shape& shape, DType dtype, const Stream& stream) {
  return Tensor::empty(shape, dtype, stream);
}

}  // namespace tutti
