// One rank throws while the others wait for it as selected by the first argument. The test checks
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
    const Stream stream = Stream::inline_on(pool);
    if (way == "all") fail("an error of all ranks");
    if (world.rank() == world.size() - 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
      fail("an error of one rank");
    }
    const Tensor t = Tensor::zeros({1000000}, DType::kFloat32, stream);
    if (way == "recv") world.recv(t, world.size() - 1, stream);
    if (way == "all_reduce") world.all_reduce(t, Reduce::kSum, stream);
    if (way == "split") (void)world.split(0, 0);
    if (way == "allocate") (void)world.allocate({1000}, DType::kFloat32, stream);
    if (way == "queued") {
      const Stream queue = Stream::queued("comm");
      world.all_reduce(t, Reduce::kSum, queue);
      queue.synchronize();
    }
    std::this_thread::sleep_for(std::chrono::hours(1));
  });
}
