#include "comm/cuda/staged.h"

#include <tutti/core/memory/owner.h>
#include "comm/staging.h"

#include <algorithm>
#include <array>

namespace tutti {
namespace {

constexpr int64_t kChunkBytes = int64_t{4} << 20;  // of one part: some tenths of a millisecond on a bus
constexpr int kBuffers = 3;                        // one each to download, exchange and upload

/// A device tensor as equal parts; each chunk has the same elements of every part.
struct Side {
  Tensor whole;  // flat; undefined if this rank has none
  int64_t parts = 1;

  static Side of(const Tensor& tensor, int64_t parts = 1) { return {tensor.view({-1}), parts}; }
  static Side none() { return {}; }
  [[nodiscard]] bool defined() const { return whole.defined(); }
  [[nodiscard]] int64_t part_size() const { return whole.numel() / parts; }
};

class StagedCollective final : public Collective {
 public:
  StagedCollective(std::unique_ptr<Collective> host, const Stream& compute)
      : host_(std::move(host)),
        compute_(compute),
        down_(Stream::cuda(compute.device().index, Stream::Priority::kHigh)),
        up_(Stream::cuda(compute.device().index, Stream::Priority::kHigh)) {}

  [[nodiscard]] int rank() const noexcept override { return host_->rank(); }
  [[nodiscard]] int size() const noexcept override { return host_->size(); }
  [[nodiscard]] bool supports(DeviceType) const noexcept override { return true; }
  void abort(std::string_view reason) noexcept override { host_->abort(reason); }

 protected:
  void on_all_reduce(const Tensor& inout, Reduce op, const Executor& executor) override {
    if (on_cpu(inout)) return with_host(executor, [&](const Stream& s) { host_->all_reduce(inout, op, s); });
    const Side side = Side::of(inout);
    move(side, side, executor,
         [&](const Tensor& in, const Tensor&, const Stream& s) { host_->all_reduce(in, op, s); });
  }
  void on_reduce_scatter(const Tensor& output, const Tensor& input, Reduce op,
                         const Executor& executor) override {
    if (on_cpu(input))
      return with_host(executor, [&](const Stream& s) { host_->reduce_scatter(output, input, op, s); });
    move(
        Side::of(input, size()), Side::of(output), executor,
        [&](const Tensor& in, const Tensor& out, const Stream& s) { host_->reduce_scatter(out, in, op, s); });
  }
  void on_all_gather(const Tensor& output, const Tensor& input, const Executor& executor) override {
    if (on_cpu(input))
      return with_host(executor, [&](const Stream& s) { host_->all_gather(output, input, s); });
    move(Side::of(input), Side::of(output, size()), executor,
         [&](const Tensor& in, const Tensor& out, const Stream& s) { host_->all_gather(out, in, s); });
  }
  void on_all_to_all(const Tensor& output, const Tensor& input, const Executor& executor) override {
    if (on_cpu(input))
      return with_host(executor, [&](const Stream& s) { host_->all_to_all(output, input, s); });
    move(Side::of(input, size()), Side::of(output, size()), executor,
         [&](const Tensor& in, const Tensor& out, const Stream& s) { host_->all_to_all(out, in, s); });
  }
  void on_broadcast(const Tensor& inout, int root, const Executor& executor) override {
    if (on_cpu(inout)) return with_host(executor, [&](const Stream& s) { host_->broadcast(inout, root, s); });
    const Side side = Side::of(inout);
    const bool is_root = rank() == root;
    move(is_root ? side : Side::none(), is_root ? Side::none() : side, executor,
         [&](const Tensor& in, const Tensor& out, const Stream& s) {
           host_->broadcast(is_root ? in : out, root, s);
         });
  }
  void on_send(const Tensor& tensor, int to, const Executor& executor) override {
    if (on_cpu(tensor)) return with_host(executor, [&](const Stream& s) { host_->send(tensor, to, s); });
    move(Side::of(tensor), Side::none(), executor,
         [&](const Tensor& in, const Tensor&, const Stream& s) { host_->send(in, to, s); });
  }
  void on_recv(const Tensor& tensor, int from, const Executor& executor) override {
    if (on_cpu(tensor)) return with_host(executor, [&](const Stream& s) { host_->recv(tensor, from, s); });
    move(Side::none(), Side::of(tensor), executor,
         [&](const Tensor&, const Tensor& out, const Stream& s) { host_->recv(out, from, s); });
  }
  void on_barrier(const Executor& executor) override {
    if (executor.cuda != nullptr) executor.cuda->synchronize();
    with_host(executor, [&](const Stream& s) { host_->barrier(s); });
  }
  std::unique_ptr<Collective> on_split(int color, int key) override {
    auto part = host_->split(color, key);
    return part == nullptr ? nullptr : std::make_unique<StagedCollective>(std::move(part), compute_);
  }

 private:
  static bool on_cpu(const Tensor& tensor) { return tensor.device().type == DeviceType::kCpu; }

  /// Calls `work` with a stream of this thread.
  template <class Work>
  static void with_host(const Executor& executor, Work work) {
    if (executor.pool != nullptr) return work(Stream::inline_on(*executor.pool));
    ThreadPool one_thread(1);
    work(Stream::inline_on(one_thread));
  }

  struct Buffer {
    Tensor in;   // pinned; undefined if the rank sends nothing
    Tensor out;  // undefined if it receives nothing, or in place
    Event downloaded, uploaded;
  };

  /// Copies chunks of `from` to the host, calls exchange(in, out, stream) with the chunk's buffers, and
  /// copies them to `to`. Returns when all copies are complete.
  template <class Exchange>
  void move(const Side& from, const Side& to, const Executor& executor, Exchange exchange) {
    const MemoryOwner owner("collectives through the host");
    const Side& known = from.defined() ? from : to;
    const int64_t count = known.part_size();
    const DType dtype = known.whole.dtype();
    const int64_t chunk = std::max<int64_t>(1, kChunkBytes / size_of(dtype));
    if (executor.cuda != nullptr) down_.wait(executor.cuda->record());
    // Earlier work of the stream may still read the memory that is overwritten.
    if (executor.cuda != nullptr) up_.wait(executor.cuda->record());
    std::array<Buffer, kBuffers> buffers;
    const bool in_place =
        from.defined() && to.defined() && from.parts == to.parts && from.whole.raw() == to.whole.raw();
    const auto room = [&](Tensor& buffer, const Side& side, int64_t n) {
      if (!side.defined()) return Tensor();
      if (!buffer.defined())
        buffer = Tensor::empty_pinned({side.parts * std::min(chunk, count)}, dtype, down_);
      return buffer.slice(0, 0, side.parts * n);
    };
    with_host(executor, [&](const Stream& host) {
      for (const StagingAction& action : staging_schedule(count, chunk, kBuffers)) {
        Buffer& buffer = buffers[static_cast<size_t>(action.buffer)];
        const int64_t n = action.end - action.begin;
        const Tensor in = room(buffer.in, from, n);
        const Tensor out = in_place ? in : room(buffer.out, to, n);
        switch (action.kind) {
          case StagingAction::Kind::kDownload:
            down_.wait(buffer.uploaded);
            for (int64_t p = 0; from.defined() && p < from.parts; ++p)
              copy(in.slice(0, p * n, (p + 1) * n), chunk_of(from, p, action), down_);
            buffer.downloaded = down_.record();
            break;
          case StagingAction::Kind::kExchange:
            buffer.downloaded.wait();
            // The exchange writes what the last upload of this buffer read.
            buffer.uploaded.wait();
            exchange(in, out, host);
            break;
          case StagingAction::Kind::kUpload:
            for (int64_t p = 0; to.defined() && p < to.parts; ++p)
              copy(chunk_of(to, p, action), out.slice(0, p * n, (p + 1) * n), up_);
            buffer.uploaded = up_.record();
            break;
        }
      }
    });
    up_.synchronize();
  }

  static Tensor chunk_of(const Side& side, int64_t part, const StagingAction& action) {
    const int64_t first = part * side.part_size();
    return side.whole.slice(0, first + action.begin, first + action.end);
  }

  std::unique_ptr<Collective> host_;
  Stream compute_;
  Stream down_, up_;
};

}  // namespace

std::unique_ptr<Collective> make_staged_collective(Collective& world, const Stream& compute) {
  return std::make_unique<StagedCollective>(world.split(0, world.rank()), compute);
}

}  // namespace tutti
