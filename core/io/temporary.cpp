#include "core/io/temporary.h"
#include <tutti/core/error.h>
#include "core/system_check.h"

#include <sys/random.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <csignal>
#include <cstring>
#include <mutex>
#include <utility>

namespace tutti {
namespace fs = std::filesystem;
namespace {

constexpr int kEnding[] = {SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGALRM, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU};
constexpr std::string_view kPrefix = ".tutti-";
constexpr std::string_view kSuffix = ".tmp";
constexpr size_t kDigits = 16;

enum State : int { kFree, kFilling, kFileThere, kDirectoryThere };

/// One registered name. Slots form a list that only grows, newest first, so that the handler can read it at
/// any time; slots of files are reused.
struct Slot {
  std::atomic<int> state = kFilling;
  Slot* next = nullptr;
  char path[PATH_MAX] = {};
};

std::atomic<Slot*> slots = nullptr;
std::atomic<int> in_use = 0;
std::atomic<bool> terminating = false;
std::atomic<bool> deferred = false;   // termination waits
std::atomic<int> pending_signal = 0;  // arrived while deferred
std::atomic<pid_t> owner = 0;
std::mutex registry;

/// Async-signal-safe. A directory comes after its files in the list, because it was registered before them
/// and its slot is never reused.
void remove_and_end(int number) {
  if (deferred) {
    pending_signal = number;
    return;
  }
  const int error_number = errno;
  if (::getpid() == owner) {  // not in a child that has not called exec yet
    terminating = true;
    for (Slot* slot = slots; slot != nullptr; slot = slot->next) {
      if (slot->state == kFileThere) (void)::unlink(slot->path);
    }
    for (Slot* slot = slots; slot != nullptr; slot = slot->next) {
      if (slot->state == kDirectoryThere) (void)::rmdir(slot->path);
    }
  }
  struct sigaction usual {};
  usual.sa_handler = SIG_DFL;
  (void)::sigaction(number, &usual, nullptr);
  (void)::raise(number);  // delivered when this handler returns
  errno = error_number;
}

void install() {
  owner = ::getpid();
  for (const int number : kEnding) {
    struct sigaction now {};
    if (::sigaction(number, nullptr, &now) != 0 || (now.sa_flags & SA_SIGINFO) != 0) continue;
    if (now.sa_handler != SIG_DFL) continue;
    struct sigaction action {};
    action.sa_handler = &remove_and_end;
    (void)::sigemptyset(&action.sa_mask);
    for (const int other : kEnding) (void)::sigaddset(&action.sa_mask, other);
    (void)::sigaction(number, &action, nullptr);
  }
}

void uninstall() {
  for (const int number : kEnding) {
    struct sigaction now {};
    if (::sigaction(number, nullptr, &now) != 0 || now.sa_handler != &remove_and_end) continue;
    struct sigaction usual {};
    usual.sa_handler = SIG_DFL;
    (void)::sigaction(number, &usual, nullptr);
  }
}

/// Null if the name is too long.
Slot* take_slot(const std::string& path, TemporaryPath::Kind kind) {
  if (path.size() >= sizeof Slot::path) return nullptr;
  const std::lock_guard lock(registry);
  while (terminating) (void)::pause();  // the process ends: create nothing new
  Slot* slot = nullptr;
  if (kind == TemporaryPath::Kind::kFile) {
    for (slot = slots; slot != nullptr; slot = slot->next) {
      int expected = kFree;
      if (slot->state.compare_exchange_strong(expected, kFilling)) break;
    }
  }
  if (slot == nullptr) {
    slot = new Slot;
    slot->next = slots;
    slots = slot;
  }
  std::memcpy(slot->path, path.c_str(), path.size() + 1);
  slot->state = kind == TemporaryPath::Kind::kFile ? kFileThere : kDirectoryThere;
  if (in_use++ == 0) install();
  return slot;
}

/// Releases one slot.
void uninstall_unused() noexcept {
  if (--in_use == 0) uninstall();
}

void give_back(Slot* slot, TemporaryPath::Kind kind) noexcept {
  const std::lock_guard lock(registry);
  slot->state = kind == TemporaryPath::Kind::kFile ? kFree : kFilling;
  uninstall_unused();
}

}  // namespace

DeferredTermination::DeferredTermination() {
  const std::lock_guard lock(registry);
  if (in_use++ == 0) install();
  deferred = true;
}

DeferredTermination::~DeferredTermination() {
  {
    const std::lock_guard lock(registry);
    deferred = false;
    uninstall_unused();
  }
  if (const int number = pending_signal.exchange(0); number != 0) (void)::kill(::getpid(), number);
}

TemporaryPath::TemporaryPath(const fs::path& path, Kind kind) : path_(path), kind_(kind) {
  std::error_code error;
  const fs::path absolute = fs::absolute(path, error);  // the working directory may change
  slot_ = take_slot((error ? path : absolute).string(), kind);
}

TemporaryPath::TemporaryPath(TemporaryPath&& other) noexcept
    : path_(std::move(other.path_)),
      kind_(other.kind_),
      slot_(std::exchange(other.slot_, nullptr)),
      kept_(std::exchange(other.kept_, true)) {}

TemporaryPath::~TemporaryPath() {
  if (!kept_) (void)(kind_ == Kind::kFile ? ::unlink(path_.c_str()) : ::rmdir(path_.c_str()));
  keep();
}

void TemporaryPath::keep() noexcept {
  kept_ = true;
  if (slot_ != nullptr) give_back(static_cast<Slot*>(std::exchange(slot_, nullptr)), kind_);
}

std::string temporary_name() {
  uint64_t random = 0;
  const ssize_t got = ::getrandom(&random, sizeof random, 0);
  require_system(got == sizeof random, "getrandom");
  return fmt::format("{}{:016x}{}", kPrefix, random, kSuffix);
}

bool is_temporary_name(std::string_view name) {
  return name.size() == kPrefix.size() + kDigits + kSuffix.size() && name.starts_with(kPrefix) &&
         name.ends_with(kSuffix);
}

}  // namespace tutti
