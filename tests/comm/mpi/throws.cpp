// One rank throws while the others wait for it in the way that the first argument names. The test looks at
// the exit code, the time and the message.
#include <tutti/comm/factory.h>

#include <chrono>
#include <string>
#include <thread>

int main(int argc, char** argv) {
  using namespace tutti;
  const std::string way = argc > 1 ? argv[1] : "";
  return run_program("throws", [&](Collective& world) {
    ThreadPool pool(1);
    const Stream on = Stream::inline_on(pool);
    if (way == "all") fail("all ranks say this");
    if (world.rank() == world.size() - 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
      fail("this rank has had enough");
    }
    const Tensor t = Tensor::zeros({1000000}, DType::kFloat32, on);
    if (way == "recv") world.recv(t, world.size() - 1, on);
    if (way == "all_reduce") world.all_reduce(t, Reduce::kSum, on);
    if (way == "split") (void)world.split(0, 0);
    if (way == "allocate") (void)world.allocate({1000}, DType::kFloat32, on);
    if (way == "queued") {
      const Stream queue = Stream::queued("comm");
      world.all_reduce(t, Reduce::kSum, queue);
      queue.synchronize();
    }
    std::this_thread::sleep_for(std::chrono::hours(1));
  });
}
