#include <tutti/core/error.h>
#include <tutti/core/stream.h>
#include "core/affinity.h"
#include "core/cuda/config.h"
#include "core/cuda/stream_handle.h"
#include "core/start_thread.h"

#include <pthread.h>

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

namespace tutti {

std::string name(const Device& device) {
  return device.type == DeviceType::kCpu ? "cpu" : fmt::format("cuda:{}", device.index);
}

struct Event::State {
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  std::exception_ptr error;
  cuda::Handle device_event;  // of a CUDA stream; the rest is not used then
  int device = 0;             // of that stream

  void finish(std::exception_ptr failure) {
    const std::scoped_lock lock(mutex);
    done = true;
    error = std::move(failure);
    changed.notify_all();
  }
};

void Event::wait() const {
  if (!state_) return;
  if constexpr (kWithCuda) {
    if (state_->device_event) return cuda::wait_event(state_->device_event, state_->device);
  }
  std::unique_lock lock(state_->mutex);
  state_->changed.wait(lock, [&] { return state_->done; });
  if (state_->error) std::rethrow_exception(state_->error);
}

bool Event::done() const {
  if (!state_) return true;
  if constexpr (kWithCuda) {
    if (state_->device_event) return cuda::event_done(state_->device_event, state_->device);
  }
  const std::scoped_lock lock(state_->mutex);
  return state_->done;
}

struct Stream::Impl {
  Device device;
  ThreadPool* pool = nullptr;  // borrowed by inline streams, owned by others

  cuda::Handle device_stream;  // of a CUDA stream
  AlgorithmSelection selection = AlgorithmSelection::kAutotuned;

  // The other members are for queued streams only.
  struct Item {
    std::function<void()> work;           // empty for a recorded point
    std::shared_ptr<Event::State> point;  // set for a recorded point
  };
  std::unique_ptr<ThreadPool> owned_pool;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Item> items;
  bool stop = false;
  std::exception_ptr failure;  // accessed only by the worker
  std::thread worker;

  Impl() = default;
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl() {
    if (!worker.joinable()) return;
    {
      const std::scoped_lock lock(mutex);
      stop = true;
      changed.notify_all();
    }
    worker.join();
  }

  void run_loop() {
    while (true) {
      Item item;
      {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return stop || !items.empty(); });
        if (items.empty()) return;
        item = std::move(items.front());
        items.pop_front();
      }
      if (item.point) {
        item.point->finish(std::exchange(failure, nullptr));
      } else if (!failure) {
        try {
          item.work();
        } catch (...) {
          failure = std::current_exception();
        }
      }
    }
  }

  void push(Item item) {
    const std::scoped_lock lock(mutex);
    items.push_back(std::move(item));
    changed.notify_all();
  }
};

Stream Stream::inline_on(ThreadPool& pool) {
  auto impl = std::make_shared<Impl>();
  impl->pool = &pool;
  return Stream(std::move(impl));
}

Stream Stream::queued(const std::string& thread_name, int pool_threads) {
  auto impl = std::make_shared<Impl>();
  impl->owned_pool = std::make_unique<ThreadPool>(pool_threads);
  impl->pool = impl->owned_pool.get();
  impl->worker = start_thread("a stream", [raw = impl.get()] {
    unbind_caller();
    raw->run_loop();
  });
  // Linux keeps 15 characters; the name is only for debuggers: a failure has no consequence.
  (void)pthread_setname_np(impl->worker.native_handle(), thread_name.substr(0, 15).c_str());
  return Stream(std::move(impl));
}

Stream Stream::cuda(int device, Priority priority, AlgorithmSelection selection) {
  if constexpr (kWithCuda) {
    auto impl = std::make_shared<Impl>();
    impl->device = {DeviceType::kCuda, device};
    impl->selection = selection;
    impl->device_stream = cuda::make_stream(device, priority == Priority::kHigh);
    return Stream(std::move(impl));
  } else {
    fail("cuda:{}: this build has no CUDA (configure with the preset 'cuda')", device);
  }
}

AlgorithmSelection Stream::algorithm_selection() const noexcept {
  return impl_->selection;
}

const Device& Stream::device() const {
  return impl_->device;
}

ThreadPool& Stream::pool() const {
  // Host loops must never access device memory: an operation that requests the pool has no kernel for the
  // device.
  require(impl_->pool != nullptr, "this operation has no kernel for {}", name(impl_->device));
  return *impl_->pool;
}

void Stream::run(std::function<void()> work) const {
  if (impl_->worker.joinable())
    impl_->push({std::move(work), nullptr});
  else
    work();
}

Event Stream::record() const {
  Event event;
  if constexpr (kWithCuda) {
    if (impl_->device_stream) {
      event.state_ = std::make_shared<Event::State>();
      event.state_->device_event = cuda::record_event(impl_->device_stream, impl_->device.index);
      event.state_->device = impl_->device.index;
      return event;
    }
  }
  if (!impl_->worker.joinable()) return event;
  event.state_ = std::make_shared<Event::State>();
  impl_->push({nullptr, event.state_});
  return event;
}

void Stream::wait(const Event& event) const {
  if constexpr (kWithCuda) {
    if (impl_->device_stream && event.state_ && event.state_->device_event) {
      return cuda::wait_on_stream(impl_->device_stream, event.state_->device_event, impl_->device.index);
    }
  }
  run([event] { event.wait(); });
}

void Stream::synchronize() const {
  record().wait();
}

void* Stream::native() const noexcept {
  return impl_->device_stream.get();
}

}  // namespace tutti
