#include <tutti/core/directory_lock.h>
#include <tutti/core/error.h>
#include <tutti/core/random.h>
#include "core/affinity.h"
#include "core/io/json.h"
#include "core/start_thread.h"

#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <optional>
#include <random>
#include <sstream>
#include <thread>
#include <utility>
#include <vector>

namespace tutti {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using Json = nlohmann::json;

constexpr std::chrono::milliseconds kPoll{100};
/// Replacing a dead holder takes milliseconds: a process that takes longer is dead too.
constexpr std::chrono::seconds kLongestTakeover{10};
constexpr int64_t kMostBytes = 4096;

std::string first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

/// State letter and start time of a process; nullopt if it does not exist.
struct ProcessFacts {
  char state = '?';
  int64_t started = 0;
};
std::optional<ProcessFacts> process_facts(int64_t pid) {
  const std::string line = first_line(fmt::format("/proc/{}/stat", pid));
  // The name, in parentheses, may contain any character.
  const size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream rest(line.substr(name_end + 1));
  ProcessFacts facts;
  rest >> facts.state;
  std::string word;
  constexpr int kFieldsBetween = 18;  // from the state, field 3, to the start, field 22
  for (int i = 0; i < kFieldsBetween; ++i) rest >> word;
  rest >> facts.started;
  if (rest.fail()) return std::nullopt;
  return facts;
}

std::string random_token() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}", random(), random());
}

class Descriptor {
 public:
  explicit Descriptor(int number = -1) : number_(number) {}
  ~Descriptor() { reset(); }
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  [[nodiscard]] int number() const { return number_; }
  void reset() {
    if (number_ >= 0) (void)::close(std::exchange(number_, -1));
  }

 private:
  int number_;
};

/// The content and state of a lock file.
struct Found {
  uint64_t inode = 0;
  timespec changed{};
  std::string text;
  std::string token;                 // empty if the text is not that of a lock
  std::optional<LockHolder> holder;  // likewise
  bool flocked = false;
  Descriptor file;

  [[nodiscard]] bool same_holding(const Found& other) const {
    return inode == other.inode && text == other.text;
  }
  [[nodiscard]] bool same_heartbeat(const Found& other) const {
    return same_holding(other) && changed.tv_sec == other.changed.tv_sec &&
           changed.tv_nsec == other.changed.tv_nsec;
  }
  [[nodiscard]] std::string name() const {
    if (!holder) return text.empty() ? "an unknown process" : text.substr(0, 200);
    return fmt::format("process {} on {}{}", holder->pid, holder->host,
                       holder->job.empty() ? "" : ", job " + holder->job);
  }
};

void parse(Found& found) {
  const Json json = Json::parse(found.text, nullptr, false);
  if (!json.is_object()) return;
  const auto text = [&](const char* key) {
    return json.contains(key) && json[key].is_string() ? json[key].get<std::string>() : std::string();
  };
  const auto number = [&](const char* key) {
    return json.contains(key) && json[key].is_number_integer() ? json[key].get<int64_t>() : int64_t{0};
  };
  if (text("token").empty()) return;
  found.token = text("token");
  found.flocked = number("flock") == 1;
  found.holder = LockHolder{.host = text("host"),
                            .kernel = text("kernel"),
                            .processes = text("processes"),
                            .pid = number("pid"),
                            .started = number("started"),
                            .job = text("job")};
}

/// Opens the file each time: NFS then queries the server instead of its cache.
std::optional<Found> find(const fs::path& path) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  const int problem = errno;
  if (file.number() < 0 && (problem == ENOENT || problem == ESTALE)) return std::nullopt;
  require(file.number() >= 0, "{}: the lock cannot be opened: {}", path.string(),
          problem == ELOOP ? "it is a symbolic link; remove it" : system_error_text(problem));
  struct stat status {};
  require(::fstat(file.number(), &status) == 0 && S_ISREG(status.st_mode),
          "{}: the lock is not a regular file; remove it", path.string());
  Found found;
  found.inode = status.st_ino;
  found.changed = status.st_mtim;
  std::array<char, kMostBytes> buffer{};
  const ssize_t n = ::pread(file.number(), buffer.data(), buffer.size(), 0);
  if (n > 0) found.text.assign(buffer.data(), static_cast<size_t>(n));
  found.file = std::move(file);
  parse(found);
  return found;
}

enum class Life : uint8_t { kAlive, kDead, kUnknown };

/// Whether a process on this kernel holds the file's flock. Tested with a shared lock, so that tests of
/// several processes do not conflict.
Life by_flock(const Found& found) {
  if (::flock(found.file.number(), LOCK_SH | LOCK_NB) == 0) {
    (void)::flock(found.file.number(), LOCK_UN);
    return Life::kDead;
  }
  return errno == EWOULDBLOCK ? Life::kAlive : Life::kUnknown;
}

/// State of the holder as far as it is known without waiting.
Life life_of(const Found& found, const LockHolder& self) {
  if (!found.holder) {  // written by a version that only wrote its name
    if (by_flock(found) == Life::kAlive) return Life::kAlive;
    return found.text.ends_with(" on " + self.host) ? Life::kDead : Life::kUnknown;
  }
  const LockHolder& holder = *found.holder;
  if (holder.kernel.empty() || holder.kernel != self.kernel) return Life::kUnknown;
  const Life flocked = found.flocked ? by_flock(found) : Life::kUnknown;
  if (flocked == Life::kAlive) return Life::kAlive;
  if (holder.processes != self.processes) return flocked;
  const std::optional<ProcessFacts> process = process_facts(holder.pid);
  const bool runs =
      process && process->started == holder.started && process->state != 'Z' && process->state != 'X';
  return runs ? Life::kAlive : Life::kDead;
}

}  // namespace

LockHolder LockHolder::self() {
  LockHolder self;
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) == 0) self.host = name.data();
  self.kernel = first_line("/proc/sys/kernel/random/boot_id");
  std::error_code none;
  self.processes = fs::read_symlink("/proc/self/ns/pid", none).string();
  self.pid = ::getpid();
  if (const auto facts = process_facts(self.pid)) self.started = facts->started;
  for (const char* variable : {"SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "FLUX_JOB_ID"}) {
    const char* value = std::getenv(variable);
    if (value != nullptr && *value != '\0') {
      self.job = value;
      break;
    }
  }
  return self;
}

struct DirectoryLock::State {
  State(fs::path lock_file, LockOptions lock_options)
      : path(std::move(lock_file)),
        options(std::move(lock_options)),
        token(random_token()),
        mine(fmt::format("{}.{}-{}-{}", path.string(), place(), options.self.pid, token)) {}

  fs::path path;
  LockOptions options;
  std::string token;
  fs::path mine;    // name of the file before it is the lock
  Descriptor file;  // of the lock, with its flock
  std::atomic<bool> lost{false};
  std::mutex mutex;
  std::condition_variable changed;
  bool stop = false;
  std::thread heartbeat_thread;

  [[nodiscard]] fs::path guard_path() const { return path.string() + ".takeover"; }

  /// Identifies the kernel and PID namespace in which process ids are valid.
  [[nodiscard]] std::string place() const {
    return fmt::format("{:016x}", stable_hash(options.self.kernel + options.self.processes));
  }

  /// Whether it is the file of this lock, which has no text if the disk was full.
  [[nodiscard]] bool is_mine(const Found& found) const {
    struct stat status {};
    return ::fstat(file.number(), &status) == 0 && status.st_ino == found.inode;
  }

  /// Removes files of processes that were killed while they prepared the lock.
  void sweep() const {
    const std::string beginning = fmt::format("{}.{}-", path.filename().string(), place());
    std::error_code error;
    std::vector<fs::path> left;
    const fs::path directory = path.has_parent_path() ? path.parent_path() : fs::path(".");
    for (fs::directory_iterator at(directory, error), end; !error && at != end; at.increment(error)) {
      const std::string name = at->path().filename().string();
      if (!name.starts_with(beginning)) continue;
      const auto facts = process_facts(std::strtoll(name.c_str() + beginning.size(), nullptr, 10));
      if (!facts || facts->state == 'Z' || facts->state == 'X') left.push_back(at->path());
    }
    for (const fs::path& file_left : left) (void)::unlink(file_left.c_str());
  }

  /// Creates a file with a unique name that describes this holder.
  void prepare() {
    file = Descriptor(::open(mine.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
    const int problem = errno;
    require(file.number() >= 0, "{}: cannot be created: {}", path.string(), system_error_text(problem));
    write_text(file.number());
  }

  void write_text(int number) const {
    const bool flocked = ::flock(number, LOCK_EX | LOCK_NB) == 0;
    const LockHolder& self = options.self;
    const std::string text = Json{{"token", token},        {"host", self.host},
                                  {"kernel", self.kernel}, {"processes", self.processes},
                                  {"pid", self.pid},       {"started", self.started},
                                  {"job", self.job},       {"flock", flocked ? 1 : 0}}
                                 .dump(-1, ' ', true, Json::error_handler_t::replace);
    // On a full disk it has no text; its flock and its heartbeats still show that the holder is alive.
    const ssize_t written = ::pwrite(number, text.data(), text.size(), 0);
    if (written != static_cast<ssize_t>(text.size())) (void)!::ftruncate(number, 0);
    (void)::fsync(number);
  }

  /// Links the prepared file to the lock's name if that is free.
  bool take_free() {
    const bool linked = ::link(mine.c_str(), path.c_str()) == 0;
    const int problem = errno;
    struct stat status {};
    // The reply of NFS may be lost although the link was created.
    if (linked || (::fstat(file.number(), &status) == 0 && status.st_nlink == 2)) {
      (void)::unlink(mine.c_str());
      return true;
    }
    if (problem == EEXIST) return false;
    const bool no_links = problem == EPERM || problem == EOPNOTSUPP || problem == ENOSYS || problem == EMLINK;
    require(no_links, "{}: cannot be created: {}", path.string(), system_error_text(problem));
    Descriptor made(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
    const int made_problem = errno;
    if (made.number() < 0 && made_problem == EEXIST) return false;
    require(made.number() >= 0, "{}: cannot be created: {}", path.string(), system_error_text(made_problem));
    write_text(made.number());
    file = std::move(made);
    (void)::unlink(mine.c_str());
    return true;
  }

  /// Replaces the file of a dead holder by the prepared file. A guard file ensures that one process at a time
  /// does so.
  bool replace(const Found& dead) {
    const fs::path guard = guard_path();
    const Descriptor guarded(
        ::open(guard.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
    if (guarded.number() < 0) return false;
    const std::optional<Found> now = find(path);
    bool taken = false;
    if (now && now->same_heartbeat(dead)) {
      const bool renamed = ::rename(mine.c_str(), path.c_str()) == 0;
      const std::optional<Found> after = renamed ? find(path) : std::nullopt;
      taken = after && is_mine(*after);
    }
    (void)::unlink(guard.c_str());
    return taken;
  }

  void acquire() {
    const auto begin = Clock::now();
    std::optional<Found> watched;
    auto watched_since = begin;
    bool seen_alive = false;
    bool logged = false;
    std::optional<Found> guard;
    auto guard_since = begin;
    while (!take_free()) {
      std::optional<Found> found = find(path);
      if (!found) continue;  // it was just released
      const auto now = Clock::now();
      if (!watched || !watched->same_heartbeat(*found)) {
        seen_alive = watched && watched->same_holding(*found);
        watched_since = now;
      }
      Life life = life_of(*found, options.self);
      const bool own_job = options.supersedes_own_job && found->holder && !found->holder->job.empty() &&
                           found->holder->job == options.self.job;
      // The earlier attempt of the job has ended; a few heartbeats show whether its process has, too.
      const auto stale = own_job ? std::min(options.stale, 3 * options.heartbeat) : options.stale;
      if (life == Life::kUnknown && now - watched_since >= stale) life = Life::kDead;
      if (life == Life::kUnknown && seen_alive) life = Life::kAlive;
      if (life == Life::kAlive && now - begin > options.timeout) {
        if (!own_job) refuse(*found);
        life = Life::kDead;
      }
      if (life == Life::kDead) {
        if (replace(*found)) return;
        std::optional<Found> other = find(guard_path());
        if (!other || !guard || !guard->same_heartbeat(*other)) guard_since = now;
        if (other && now - guard_since > kLongestTakeover) (void)::unlink(guard_path().c_str());
        guard = std::move(other);
      } else if (life == Life::kUnknown && !logged && options.log && now - begin > std::chrono::seconds(1)) {
        logged = true;
        options.log(fmt::format("{}: lock of {}: waiting up to {} s to see whether it is alive",
                                path.string(), found->name(),
                                std::chrono::duration_cast<std::chrono::seconds>(options.stale).count()));
      }
      if (options.cancelled && options.cancelled()) {
        fail("{}: stopped while waiting for {}", path.string(), found->name());
      }
      watched = std::move(found);
      std::this_thread::sleep_for(kPoll);
    }
  }

  [[noreturn]] void refuse(const Found& found) const {
    fail("{}: in use by {}: {}{}{}", path.parent_path().string(), options.subject, found.name(),
         options.advice.empty() ? "" : ". ", options.advice);
  }

  void heartbeat() {
    const std::array<timespec, 2> now{timespec{0, UTIME_NOW}, timespec{0, UTIME_NOW}};
    (void)::futimens(file.number(), now.data());
    try {
      const std::optional<Found> found = find(path);
      if (found && !is_mine(*found)) lost = true;
      if (!found) restore();
    } catch (const Error&) {
      // The file system does not respond; the next heartbeat tries again.
    }
  }

  /// The file was deleted by a user: this process still holds the lock.
  void restore() {
    Descriptor before = std::move(file);
    file = Descriptor();
    try {
      prepare();
      if (!take_free()) {
        (void)::unlink(mine.c_str());
        lost = true;
      }
    } catch (const Error&) {  // the directory is gone
      file = std::move(before);
    }
  }

  void start_heartbeat() {
    heartbeat_thread = start_thread_without_signals("the lock of a directory", [this] {
      unbind_caller();
      std::unique_lock lock(mutex);
      while (!changed.wait_for(lock, options.heartbeat, [this] { return stop; })) {
        lock.unlock();
        if (!lost) heartbeat();
        lock.lock();
      }
    });
  }

  void end() noexcept {
    if (heartbeat_thread.joinable()) {
      {
        const std::scoped_lock lock(mutex);
        stop = true;
        changed.notify_all();
      }
      heartbeat_thread.join();
    }
    try {
      const std::optional<Found> found = find(path);
      if (found && !lost && is_mine(*found)) (void)::unlink(path.c_str());
    } catch (const std::exception&) {
      // It cannot be read; the next process detects that its holder has ended.
    }
  }
};

DirectoryLock::DirectoryLock(fs::path file, LockOptions options)
    : state_(std::make_unique<State>(std::move(file), std::move(options))) {
  try {
    state_->prepare();
    state_->acquire();
    state_->sweep();
    state_->start_heartbeat();
  } catch (...) {
    (void)::unlink(state_->mine.c_str());
    state_->end();
    throw;
  }
}

DirectoryLock::~DirectoryLock() {
  state_->end();
}

bool DirectoryLock::held() const noexcept {
  return !state_->lost;
}

void DirectoryLock::require_held() const {
  if (held()) return;
  std::string other = "another process";
  try {
    if (const auto found = find(state_->path)) other = found->name();
  } catch (const Error&) {
  }
  fail("{}: its lock was taken by {} while this process was suspended; this process stops writing there",
       state_->path.parent_path().string(), other);
}

}  // namespace tutti
