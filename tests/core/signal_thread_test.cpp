#include "core/signal_thread.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstring>
#include <set>
#include <thread>

namespace tutti {
namespace {

std::atomic<int> taken = 0;
std::atomic<pthread_t> taker;

void take(int /*number*/) {
  taker = pthread_self();
  ++taken;
}

/// Installs a handler for one signal and restores the previous one.
class Handler {
 public:
  explicit Handler(int number) : number_(number) {
    struct sigaction action {};
    action.sa_handler = &take;
    action.sa_flags = SA_RESTART;
    EXPECT_EQ(sigaction(number, &action, &before_), 0);
  }
  ~Handler() { EXPECT_EQ(sigaction(number_, &before_, nullptr), 0); }
  Handler(const Handler&) = delete;
  Handler& operator=(const Handler&) = delete;

 private:
  int number_;
  struct sigaction before_ {};
};

void send_to_process(int number) {
  const int before = taken;
  ASSERT_EQ(kill(getpid(), number), 0);
  while (taken == before) std::this_thread::yield();
}

TEST(SignalThread, HandlersDoNotRunOnTheCallerOrItsThreads) {
  for (const int number :
       {SIGTERM, SIGUSR1, SIGINT, SIGALRM, SIGXCPU, SIGVTALRM, SIGWINCH, SIGURG, SIGRTMIN}) {
    const Handler handler(number);
    const SignalThread signals;
    std::atomic<bool> done = false;
    std::thread other([&] {
      while (!done) std::this_thread::yield();
    });
    const pthread_t other_id = other.native_handle();
    for (int i = 0; i < 50; ++i) {
      send_to_process(number);
      EXPECT_EQ(pthread_equal(taker, pthread_self()), 0);
      EXPECT_EQ(pthread_equal(taker, other_id), 0);
    }
    done = true;
    other.join();
  }
}

// A signal with a handler that is not blocked corrupts memory, rarely and silently.
TEST(SignalThread, BlocksAllSignalsOfAProcess) {
  const std::set<int> own = {SIGSEGV, SIGBUS,  SIGFPE,  SIGILL,  SIGTRAP, SIGSYS,  SIGABRT,
                             SIGPIPE, SIGXFSZ, SIGPROF, SIGTTIN, SIGTTOU, SIGKILL, SIGSTOP};
  const SignalThread signals;
  sigset_t held;
  ASSERT_EQ(pthread_sigmask(SIG_BLOCK, nullptr, &held), 0);
  for (int number = 1; number <= SIGRTMAX; ++number) {
    if (number > SIGSYS && number < SIGRTMIN) continue;  // reserved by the C library
    EXPECT_EQ(sigismember(&held, number), own.contains(number) ? 0 : 1) << strsignal(number);
  }
}

TEST(SignalThread, TheSignalMaskIsRestored) {
  const Handler handler(SIGUSR1);
  { const SignalThread signals; }
  send_to_process(SIGUSR1);
  EXPECT_NE(pthread_equal(taker, pthread_self()), 0);
}

}  // namespace
}  // namespace tutti
