#include "comm/elements.h"

#include <cstdio>

namespace tutti {
namespace {

class SelfCollective final : public Collective {
 public:
  [[nodiscard]] int rank() const noexcept override { return 0; }
  [[nodiscard]] int size() const noexcept override { return 1; }
  [[nodiscard]] bool supports(DeviceType) const noexcept override { return true; }
  void abort(std::string_view reason) noexcept override {
    // There are no other ranks; the caller's exception ends the program.
    (void)std::fprintf(stderr, "tutti: %.*s\n", static_cast<int>(reason.size()), reason.data());
  }

 protected:
  void on_all_reduce(const Tensor&, Reduce, const Executor&) override {}
  void on_reduce_scatter(const Tensor& output, const Tensor& input, Reduce,
                         const Executor& executor) override {
    copy_through(output, input, executor);
  }
  void on_all_gather(const Tensor& output, const Tensor& input, const Executor& executor) override {
    copy_through(output, input, executor);
  }
  void on_all_to_all(const Tensor& output, const Tensor& input, const Executor& executor) override {
    copy_through(output, input, executor);
  }
  void on_broadcast(const Tensor&, int, const Executor&) override {}
  // Not reached: the checks of Collective accept no peer.
  void on_send(const Tensor&, int, const Executor&) override { fail("send: a world of one rank"); }
  void on_recv(const Tensor&, int, const Executor&) override { fail("recv: a world of one rank"); }
  void on_barrier(const Executor&) override {}
  std::unique_ptr<Collective> on_split(int color, int) override {
    return color < 0 ? nullptr : make_self_collective();
  }

 private:
  static void copy_through(const Tensor& output, const Tensor& input, const Executor& executor) {
    if (output.device().type == DeviceType::kCpu)
      copy_elements(Elements::of(output), Elements::of(input));
    else if (output.raw() != input.raw())
      copy(output, input.view(output.shape()),
           executor.cuda != nullptr ? *executor.cuda : *output.storage().allocation_stream());
  }
};

}  // namespace

std::unique_ptr<Collective> make_self_collective() {
  return std::make_unique<SelfCollective>();
}

}  // namespace tutti
