#include <tutti/core/directory_lock.h>
#include <tutti/core/error.h>

#include <gtest/gtest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <optional>
#include <thread>

#include "tests/temporary_directory.h"

namespace tutti {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;
namespace fs = std::filesystem;

/// Short times: a live holder has fifty heartbeats before it would be considered dead.
LockOptions quick() {
  LockOptions options;
  options.timeout = milliseconds(0);
  options.heartbeat = milliseconds(40);
  options.stale = milliseconds(2000);
  return options;
}

/// Options of a process on another kernel.
LockOptions on_another_host(const std::string& name = "node2") {
  LockOptions options = quick();
  options.self.host = name;
  options.self.kernel = "another-kernel-" + name;
  return options;
}

std::string refusal(const fs::path& file, const LockOptions& options) {
  try {
    const DirectoryLock lock(file, options);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

int64_t entries(const fs::path& directory) {
  return std::distance(fs::directory_iterator(directory), fs::directory_iterator());
}

/// A child process that holds a lock until it is killed.
class Holder {
 public:
  Holder(const fs::path& file, const LockOptions& options) {
    std::array<int, 2> ends{};
    EXPECT_EQ(pipe(ends.data()), 0);
    pid_ = fork();
    if (pid_ == 0) {
      LockOptions own = options;
      own.self.pid = getpid();
      own.self.started = LockHolder::self().started;
      char answer = 'n';
      std::optional<DirectoryLock> lock;
      try {
        lock.emplace(file, own);
        answer = 'y';
      } catch (const Error&) {
      }
      (void)!write(ends[1], &answer, 1);
      for (;;) pause();
    }
    (void)close(ends[1]);
    char answer = 0;
    EXPECT_EQ(read(ends[0], &answer, 1), 1);
    EXPECT_EQ(answer, 'y');
    (void)close(ends[0]);
  }
  ~Holder() { kill(); }
  void signal(int number) const { (void)::kill(pid_, number); }
  void kill() {
    if (pid_ <= 0) return;
    signal(SIGKILL);
    (void)waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = 0;
};

TEST(DirectoryLockTest, IsReleasedAndRemovedAtTheEnd) {
  const TemporaryDirectory folder;
  const fs::path file = folder / "lock";
  {
    const DirectoryLock lock(file, quick());
    EXPECT_TRUE(lock.held());
    EXPECT_NO_THROW(lock.require_held());
    EXPECT_EQ(entries(folder.path()), 1);
    const std::string message = refusal(file, quick());
    EXPECT_NE(message.find(fmt::format("in use by a run: process {} on ", getpid())), std::string::npos)
        << message;
  }
  EXPECT_EQ(entries(folder.path()), 0);
  EXPECT_EQ(refusal(file, quick()), "");
}

TEST(DirectoryLockTest, TheLockOfAKilledProcessIsReplaced) {
  const TemporaryDirectory folder;
  const fs::path file = folder / "lock";
  for (int i = 0; i < 3; ++i) {
    Holder holder(file, quick());
    EXPECT_NE(refusal(file, quick()).find(fmt::format("process {} on", holder.pid())), std::string::npos);
    // A stopped process is not considered dead.
    holder.signal(SIGSTOP);
    std::this_thread::sleep_for(milliseconds(200));
    EXPECT_NE(refusal(file, quick()), "");
    holder.kill();
    const auto begin = Clock::now();
    EXPECT_EQ(refusal(file, quick()), "");
    EXPECT_LT(Clock::now() - begin, quick().stale);
  }
  EXPECT_EQ(entries(folder.path()), 0);
}

// As containers and the hosts of a test cluster: one kernel with different host names and PID namespaces.
TEST(DirectoryLockTest, InAnotherPidNamespaceFlockShowsThatTheHolderIsAlive) {
  const TemporaryDirectory folder;
  const fs::path file = folder / "lock";
  Holder holder(file, quick());
  LockOptions inside = quick();
  inside.self.host = "container";
  inside.self.processes = "pid:[1]";
  EXPECT_NE(refusal(file, inside).find("in use by"), std::string::npos);
  holder.kill();
  const auto begin = Clock::now();
  EXPECT_EQ(refusal(file, inside), "");
  EXPECT_LT(Clock::now() - begin, quick().stale);
}

TEST(DirectoryLockTest, OnAnotherKernelHeartbeatsShowThatTheHolderIsAlive) {
  const TemporaryDirectory folder;
  const fs::path file = folder / "lock";
  Holder holder(file, on_another_host());
  std::atomic<int> lines{0};
  LockOptions asking = quick();
  asking.log = [&](const std::string&) { ++lines; };
  auto begin = Clock::now();
  const std::string message = refusal(file, asking);
  EXPECT_NE(message.find("on node2"), std::string::npos) << message;
  EXPECT_LT(Clock::now() - begin, asking.stale);
  holder.signal(SIGSTOP);
  begin = Clock::now();
  {
    const DirectoryLock lock(file, asking);
    EXPECT_GE(Clock::now() - begin, asking.stale);
    EXPECT_EQ(lines, 1);
    // It continues, detects that it was replaced, and does not remove the lock.
    holder.signal(SIGCONT);
    std::this_thread::sleep_for(milliseconds(500));
    EXPECT_TRUE(lock.held());
    EXPECT_NE(refusal(file, quick()), "");
  }
  EXPECT_EQ(entries(folder.path()), 0);
}

TEST(DirectoryLockTest, AReplacedHolderDetectsIt) {
  const TemporaryDirectory folder;
  const fs::path file = folder / "lock";
  LockOptions slow = on_another_host();
  slow.heartbeat = milliseconds(3000);  // longer than others wait
  const DirectoryLock lock(file, slow);
  LockOptions asking = quick();
  asking.stale = milliseconds(300);
  const DirectoryLock taken(file, asking);
  EXPECT_TRUE(taken.held());
  const auto deadline = Clock::now() + std::chrono::seconds(30);
  while (lock.held() && Clock::now() < deadline) std::this_thread::sleep_for(milliseconds(20));
  EXPECT_FALSE(lock.held());
  try {
    lock.require_held();
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(fmt::format("process {}", getpid())), std::string::npos)
        << error.what();
  }
}

TEST(DirectoryLockTest, OneOfSeveralProcessesReplacesADeadHolder) {
  const TemporaryDirectory folder;
  const fs::path file = folder / "lock";
  for (int round = 0; round < 5; ++round) {
    Holder(file, quick()).kill();
    EXPECT_TRUE(fs::exists(file));
    std::atomic<int> inside{0};
    std::atomic<int> most{0};
    std::atomic<int> entered{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 6; ++i) {
      threads.emplace_back([&] {
        LockOptions options = quick();
        options.timeout = std::chrono::seconds(60);
        const DirectoryLock lock(file, options);
        most = std::max(most.load(), ++inside);
        ++entered;
        std::this_thread::sleep_for(milliseconds(30));
        EXPECT_TRUE(lock.held());
        --inside;
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(most, 1);
    EXPECT_EQ(entered, 6);
    EXPECT_EQ(entries(folder.path()), 0);
  }
}

TEST(DirectoryLockTest, ALaterAttemptOfTheSameJobReplacesTheHolder) {
  const TemporaryDirectory folder;
  const fs::path file = folder / "lock";
  LockOptions first = quick();
  first.self.job = "4711";
  const Holder holder(file, first);
  LockOptions next = quick();
  next.timeout = milliseconds(100);
  next.supersedes_own_job = true;
  next.self.job = "4712";
  EXPECT_NE(refusal(file, next).find("job 4711"), std::string::npos);
  next.self.job = "4711";
  EXPECT_EQ(refusal(file, next), "");
}

TEST(DirectoryLockTest, OtherFilesAreMonitoredOrRefused) {
  const TemporaryDirectory folder;
  const fs::path file = folder / "lock";
  LockOptions options = quick();
  options.stale = milliseconds(300);
  // Files of earlier versions, of this host and of another one; damaged; empty, as on a full disk.
  for (const std::string& text :
       {fmt::format("process 1 on {}", options.self.host), std::string("process 1 on far"),
        std::string("{\"token\": 5}"), std::string("\0\0\0", 3), std::string()}) {
    write_all(file, text);
    EXPECT_EQ(refusal(file, options), "") << text;
    EXPECT_FALSE(fs::exists(file));
  }
  write_all(folder / "target", "precious");
  fs::create_symlink("target", file);
  EXPECT_NE(refusal(file, options).find("symbolic link"), std::string::npos) << refusal(file, options);
  EXPECT_EQ(read_all(folder / "target"), "precious");
  fs::remove(file);
  fs::create_directory(file);
  EXPECT_NE(refusal(file, options).find("not a regular file"), std::string::npos) << refusal(file, options);
  EXPECT_EQ(entries(folder.path()), 2);
  EXPECT_NE(refusal(folder / "nowhere" / "lock", options).find("cannot be created: No such file"),
            std::string::npos);
}

TEST(DirectoryLockTest, AGuardFileOfACrashedProcessExpires) {
  const TemporaryDirectory folder;
  const fs::path file = folder / "lock";
  Holder(file, quick()).kill();
  write_all(folder / "lock.takeover", "");
  EXPECT_EQ(refusal(file, quick()), "");
  EXPECT_EQ(entries(folder.path()), 0);
}

TEST(DirectoryLockTest, AStopRequestCancelsTheWait) {
  const TemporaryDirectory folder;
  const fs::path file = folder / "lock";
  const Holder holder(file, quick());
  LockOptions asking = quick();
  asking.timeout = std::chrono::seconds(600);
  std::atomic<int> polls{0};
  asking.cancelled = [&] { return ++polls > 2; };
  EXPECT_NE(refusal(file, asking).find("stopped while waiting for process"), std::string::npos);
  EXPECT_EQ(entries(folder.path()), 1);
}

TEST(DirectoryLockTest, ADeletedFileIsRestored) {
  const TemporaryDirectory folder;
  const fs::path file = folder / "lock";
  const DirectoryLock lock(file, quick());
  fs::remove(file);
  const auto deadline = Clock::now() + std::chrono::seconds(30);
  while (!fs::exists(file) && Clock::now() < deadline) std::this_thread::sleep_for(milliseconds(20));
  EXPECT_TRUE(lock.held());
  EXPECT_NE(refusal(file, quick()), "");
}

}  // namespace
}  // namespace tutti
