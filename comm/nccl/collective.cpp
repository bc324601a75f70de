#include "comm/nccl/collective.h"

#include <tutti/core/memory/owner.h>
#include "comm/elements.h"
#include "comm/nccl/communicator.h"
#include "comm/nccl/reduce_tree.h"

#include <utility>

namespace tutti {
namespace {

ncclDataType_t type_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return ncclFloat32;
    case DType::kBFloat16:
      return ncclBfloat16;
    case DType::kFloat16:
      return ncclFloat16;
    case DType::kFloat64:
      return ncclFloat64;
    case DType::kInt32:
      return ncclInt32;
    case DType::kInt64:
      return ncclInt64;
    case DType::kUInt8:
      return ncclUint8;
  }
  fail("NCCL: no type for {}", name(dtype));
}

size_t count_of(const Elements& e) {
  return static_cast<size_t>(e.count);
}

class NcclCollective final : public Collective {
 public:
  NcclCollective(std::unique_ptr<Collective> control, std::unique_ptr<NcclCommunicator> comm)
      : control_(std::move(control)), comm_(std::move(comm)) {}

  [[nodiscard]] int rank() const noexcept override { return control_->rank(); }
  [[nodiscard]] int size() const noexcept override { return control_->size(); }
  [[nodiscard]] bool supports(DeviceType device) const noexcept override {
    return device == DeviceType::kCuda;
  }
  [[nodiscard]] Stream communication_stream(const Stream& compute) const override {
    return Stream::cuda(compute.device().index, Stream::Priority::kHigh);
  }
  void abort(std::string_view reason) noexcept override {
    comm_->abort();
    control_->abort(reason);
  }

  [[nodiscard]] Tensor allocate(const Shape& shape, DType dtype, const Stream& stream) override {
    const Tensor tensor = Tensor::empty(shape, dtype, stream);
    if (tensor.numel() > 0) comm_->use_memory(tensor);
    return tensor;
  }

 protected:
  void on_all_reduce(const Tensor& inout, Reduce op, const Executor& executor) override {
    const Elements all = Elements::of(inout);
    if (!by_tree(op)) {
      return run("all_reduce", all, {&inout}, executor, [&](ncclComm_t comm, cudaStream_t stream) {
        return ncclAllReduce(all.data, all.data, count_of(all), type_of(all.dtype), ncclSum, comm, stream);
      });
    }
    // Each rank adds its part of all contributions, then sends it to all ranks: the same amount of data as a
    // ring.
    const auto part = [&](int r) {
      return all.part(part_begin(all.count, r, size()), part_begin(all.count, r + 1, size()));
    };
    const Tensor others = exchange_parts(inout, executor, part);
    reduce_tree(part(rank()), operands(others, part(rank())), op, stream_of(executor));
    run("all_reduce, second part", all, {&inout}, executor, [&](ncclComm_t comm, cudaStream_t stream) {
      ncclResult_t result = ncclSuccess;
      for (int r = 0; r < size() && good(result); ++r) {
        if (r == rank()) continue;
        result = send_to(r, part(rank()), comm, stream);
        if (good(result)) result = receive_from(r, part(r), comm, stream);
      }
      return result;
    });
  }

  void on_reduce_scatter(const Tensor& output, const Tensor& input, Reduce op,
                         const Executor& executor) override {
    const Elements in = Elements::of(input);
    const Elements out = Elements::of(output);
    if (!by_tree(op)) {
      return run("reduce_scatter", in, {&output, &input}, executor,
                 [&](ncclComm_t comm, cudaStream_t stream) {
                   return ncclReduceScatter(in.data, out.data, count_of(out), type_of(in.dtype), ncclSum,
                                            comm, stream);
                 });
    }
    const auto part = [&](int r) { return in.equal_part(r, size()); };
    const Tensor others = exchange_parts(input, executor, part);
    reduce_tree(out, operands(others, part(rank())), op, stream_of(executor));
    output.record_use(stream_of(executor));
  }

  void on_all_gather(const Tensor& output, const Tensor& input, const Executor& executor) override {
    const Elements in = Elements::of(input);
    const Elements out = Elements::of(output);
    run("all_gather", out, {&output, &input}, executor, [&](ncclComm_t comm, cudaStream_t stream) {
      return ncclAllGather(in.data, out.data, count_of(in), type_of(in.dtype), comm, stream);
    });
  }

  void on_all_to_all(const Tensor& output, const Tensor& input, const Executor& executor) override {
    const Elements in = Elements::of(input);
    const Elements out = Elements::of(output);
    run("all_to_all", in, {&output, &input}, executor, [&](ncclComm_t comm, cudaStream_t stream) {
      ncclResult_t result = ncclSuccess;
      for (int r = 0; r < size() && good(result); ++r) {
        result = send_to(r, in.equal_part(r, size()), comm, stream);
        if (good(result)) result = receive_from(r, out.equal_part(r, size()), comm, stream);
      }
      return result;
    });
  }

  void on_broadcast(const Tensor& inout, int root, const Executor& executor) override {
    const Elements all = Elements::of(inout);
    run("broadcast", all, {&inout}, executor, [&](ncclComm_t comm, cudaStream_t stream) {
      return ncclBroadcast(all.data, all.data, count_of(all), type_of(all.dtype), root, comm, stream);
    });
  }

  void on_send(const Tensor& tensor, int to, const Executor& executor) override {
    const Elements all = Elements::of(tensor);
    run("send", all, {&tensor}, executor,
        [&](ncclComm_t comm, cudaStream_t stream) { return send_to(to, all, comm, stream); });
  }

  void on_recv(const Tensor& tensor, int from, const Executor& executor) override {
    const Elements all = Elements::of(tensor);
    run("recv", all, {&tensor}, executor,
        [&](ncclComm_t comm, cudaStream_t stream) { return receive_from(from, all, comm, stream); });
  }

  void on_barrier(const Executor& executor) override {
    const Tensor one = Tensor::zeros({1}, DType::kInt32, stream_of(executor));
    const Elements e = Elements::of(one);
    run("barrier", e, {&one}, executor, [&](ncclComm_t comm, cudaStream_t stream) {
      return ncclAllReduce(e.data, e.data, 1, ncclInt32, ncclSum, comm, stream);
    });
  }

  std::unique_ptr<Collective> on_split(int color, int key) override {
    std::unique_ptr<Collective> control = control_->split(color, key);
    std::unique_ptr<NcclCommunicator> comm = NcclCommunicator::split(*comm_, control.get(), color, key);
    if (control == nullptr) return nullptr;
    return std::make_unique<NcclCollective>(std::move(control), std::move(comm));
  }

 private:
  static bool good(ncclResult_t result) { return result == ncclSuccess || result == ncclInProgress; }
  static ncclResult_t send_to(int peer, const Elements& e, ncclComm_t comm, cudaStream_t stream) {
    return ncclSend(e.data, count_of(e), type_of(e.dtype), peer, comm, stream);
  }
  static ncclResult_t receive_from(int peer, const Elements& e, ncclComm_t comm, cudaStream_t stream) {
    return ncclRecv(e.data, count_of(e), type_of(e.dtype), peer, comm, stream);
  }

  /// NCCL does not define maxima and minima of NaN: those always use the tree.
  [[nodiscard]] bool by_tree(Reduce op) const { return op != Reduce::kSum || comm_->options().ordered; }

  static const Stream& stream_of(const Executor& executor) {
    require(executor.cuda != nullptr, "NCCL: operations need a CUDA stream");
    return *executor.cuda;
  }

  template <class Operation>
  void run(std::string_view op, const Elements& size, std::initializer_list<const Tensor*> tensors,
           const Executor& executor, Operation operation) {
    const Stream& stream = stream_of(executor);
    if (size.count == 0) return;
    comm_->run(
        fmt::format("{} of {} {}, rank {} of {}", op, size.count, name(size.dtype), rank(), this->size()),
        stream, [&](ncclComm_t comm) { return operation(comm, static_cast<cudaStream_t>(stream.native())); });
    for (const Tensor* tensor : tensors) tensor->record_use(stream);
  }

  /// This rank's part of the tensors of all other ranks, concatenated in rank order.
  template <class Part>
  Tensor exchange_parts(const Tensor& mine, const Executor& executor, Part part) {
    const MemoryOwner owner("ordered sums over NCCL");
    const Elements all = Elements::of(mine);
    const int64_t n = part(rank()).count;
    const Tensor others = Tensor::empty({n * (size() - 1)}, mine.dtype(), stream_of(executor));
    run("exchange of parts", all, {&mine}, executor, [&](ncclComm_t comm, cudaStream_t stream) {
      ncclResult_t result = ncclSuccess;
      for (int r = 0; r < size() && good(result); ++r) {
        if (r == rank()) continue;
        const int64_t at = n * (r - (r > rank() ? 1 : 0));
        result = send_to(r, part(r), comm, stream);
        if (good(result)) result = receive_from(r, Elements::of(others).part(at, at + n), comm, stream);
      }
      return result;
    });
    return others;
  }

  /// All contributions to this rank's part in rank order.
  [[nodiscard]] std::vector<Elements> operands(const Tensor& others, const Elements& mine) const {
    std::vector<Elements> all;
    all.reserve(static_cast<size_t>(size()));
    for (int r = 0; r < size(); ++r) {
      const int64_t at = mine.count * (r - (r > rank() ? 1 : 0));
      all.push_back(r == rank() ? mine : Elements::of(others).part(at, at + mine.count));
    }
    return all;
  }

  std::unique_ptr<Collective> control_;
  std::unique_ptr<NcclCommunicator> comm_;
};

}  // namespace

std::unique_ptr<Collective> make_nccl_collective(Collective& world, const Stream& compute,
                                                 const DeviceCollectiveOptions& options) {
  std::unique_ptr<Collective> control = world.split(0, world.rank());
  auto comm = std::make_unique<NcclCommunicator>(*control, compute, options);
  return std::make_unique<NcclCollective>(std::move(control), std::move(comm));
}

}  // namespace tutti
