#include "launcher/launch/child.h"

#include <tutti/core/error.h>
#include "core/system_check.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

namespace tutti {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr int kCannotStart = 127;
constexpr auto kRound = std::chrono::milliseconds(10);

struct Pipe {
  Descriptor read;
  Descriptor write;
};

Pipe make_pipe() {
  std::array<int, 2> ends{};
  require_system(pipe2(ends.data(), O_CLOEXEC) == 0, "pipe2");
  return {Descriptor(ends[0]), Descriptor(ends[1])};
}

/// The path of a program, as the PATH of its own environment finds it.
std::string find_program(const std::string& program, const Variables& variables) {
  if (program.find('/') != std::string::npos) return program;
  const auto path = variables.find("PATH");
  std::istringstream folders(path == variables.end() ? "" : path->second);
  for (std::string folder; std::getline(folders, folder, ':');) {
    const std::string candidate = folder + "/" + program;
    if (!folder.empty() && access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  fail("{}: not found on the PATH", program);
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> all;
  all.reserve(texts.size() + 1);
  for (std::string& text : texts) all.push_back(text.data());
  all.push_back(nullptr);
  return all;
}

/// Everything that the new process does before it becomes the program: nothing here may allocate.
[[noreturn]] void become(const char* path, char* const* argv, char* const* envp, int in, int out, int err,
                         int report, pid_t parent) {
  (void)setpgid(0, 0);
  (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(kCannotStart);
  sigset_t none;
  (void)sigemptyset(&none);
  (void)sigprocmask(SIG_SETMASK, &none, nullptr);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGPIPE, SIGCHLD, SIGXFSZ}) {
    (void)std::signal(signal, SIG_DFL);
  }
  (void)dup2(in, STDIN_FILENO);
  if (out >= 0) (void)dup2(out, STDOUT_FILENO);
  if (err >= 0) (void)dup2(err, STDERR_FILENO);
  (void)execve(path, argv, envp);
  const int problem = errno;
  (void)!write(report, &problem, sizeof problem);
  _exit(kCannotStart);
}

void set_not_blocking(const Descriptor& pipe) {
  require_system(fcntl(pipe.number(), F_SETFL, O_NONBLOCK) == 0, "fcntl");
}

/// Appends what can be read now; false at the end of the stream.
bool drain(const Descriptor& pipe, std::string& text) {
  std::array<char, 4096> buffer{};
  while (true) {
    const ssize_t n = read(pipe.number(), buffer.data(), buffer.size());
    if (n > 0) text.append(buffer.data(), static_cast<size_t>(n));
    if (n == 0) return false;
    if (n < 0 && errno != EINTR) return errno == EAGAIN;
  }
}

/// The parent of each process, from /proc.
std::vector<std::pair<pid_t, pid_t>> processes_and_parents() {
  std::vector<std::pair<pid_t, pid_t>> all;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream file(entry.path() / "stat");
    std::string line;
    std::getline(file, line);
    // "pid (name) state parent": the name may hold anything, also parentheses.
    const size_t close = line.rfind(')');
    if (close == std::string::npos) continue;
    std::istringstream rest(line.substr(close + 1));
    char state = 0;
    pid_t parent = 0;
    if (rest >> state >> parent) all.emplace_back(static_cast<pid_t>(std::stol(name)), parent);
  }
  return all;
}

std::vector<pid_t> descendants() {
  const auto all = processes_and_parents();
  std::vector<pid_t> found{getpid()};
  for (size_t i = 0; i < found.size(); ++i) {
    for (const auto& [process, parent] : all) {
      if (parent == found[i]) found.push_back(process);
    }
  }
  found.erase(found.begin());
  return found;
}

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this != &other) {
    close();
    number_ = other.release();
  }
  return *this;
}

void Descriptor::close() noexcept {
  if (number_ >= 0) (void)::close(number_);
  number_ = -1;
}

int Descriptor::release() noexcept {
  return std::exchange(number_, -1);
}

Child Child::start(const std::vector<std::string>& argv, const Variables& variables, const Streams& streams) {
  require(!argv.empty(), "an empty command cannot be started");
  const std::string path = find_program(argv.front(), variables);
  std::vector<std::string> words = argv;
  std::vector<std::string> environment;
  for (const auto& [name, value] : variables) environment.push_back(fmt::format("{}={}", name, value));
  const std::vector<char*> argv_pointers = pointers(words);
  const std::vector<char*> environment_pointers = pointers(environment);

  const Descriptor in(open(streams.input.c_str(), O_RDONLY | O_CLOEXEC));
  require_system(in.number() >= 0, "{}", streams.input);
  Pipe out = streams.capture_out ? make_pipe() : Pipe{};
  Pipe err = streams.capture_err ? make_pipe() : Pipe{};
  Pipe report = make_pipe();
  Child child;
  const pid_t parent = getpid();
  child.pid_ = fork();
  require_system(child.pid_ >= 0, "fork");
  if (child.pid_ == 0) {
    become(path.c_str(), argv_pointers.data(), environment_pointers.data(), in.number(), out.write.number(),
           err.write.number(), report.write.number(), parent);
  }
  (void)setpgid(child.pid_, child.pid_);  // in both processes, because either may run first
  report.write.close();
  int problem = 0;
  ssize_t n = 0;
  do {
    n = read(report.read.number(), &problem, sizeof problem);
  } while (n < 0 && errno == EINTR);
  if (n == static_cast<ssize_t>(sizeof problem)) {
    (void)waitpid(child.pid_, nullptr, 0);
    fail("{}: cannot be started: {}", path, system_error_text(problem));
  }
  child.out_ = std::move(out.read);
  child.err_ = std::move(err.read);
  if (streams.capture_out) set_not_blocking(child.out_);
  if (streams.capture_err) set_not_blocking(child.err_);
  return child;
}

void Child::send(int signal) noexcept {
  if (!status_) (void)kill(pid_, signal);
}

std::optional<int> Child::poll_status() {
  if (status_) return status_;
  int status = 0;
  const pid_t ended = waitpid(pid_, &status, WNOHANG);
  require_system(ended >= 0 || errno == EINTR, "waitpid");
  if (ended == pid_) status_ = status;
  return status_;
}

Output run_to_end(const std::vector<std::string>& argv, const Variables& variables, double timeout_s,
                  const std::string& input) {
  Child child = Child::start(argv, variables, {.input = input, .capture_out = true, .capture_err = true});
  const auto deadline = Clock::now() + std::chrono::duration<double>(timeout_s);
  Output output;
  bool out_open = true;
  bool err_open = true;
  std::optional<int> status;
  while (!status || out_open || err_open) {
    std::array<pollfd, 2> waits{pollfd{out_open ? child.out().number() : -1, POLLIN, 0},
                                pollfd{err_open ? child.err().number() : -1, POLLIN, 0}};
    (void)poll(waits.data(), waits.size(), 20);
    const bool had_ended = status.has_value();
    if (out_open) out_open = drain(child.out(), output.out);
    if (err_open) err_open = drain(child.err(), output.err);
    if (had_ended) break;  // what it left in the pipes is read; others may hold them open
    status = child.poll_status();
    if (!status && Clock::now() > deadline) {
      (void)kill(-child.pid(), SIGKILL);
      while (!child.poll_status()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      fail("{}: no answer within {:g} s", argv.front(), timeout_s);
    }
  }
  output.exit_code = WIFSIGNALED(*status) ? 128 + WTERMSIG(*status) : WEXITSTATUS(*status);
  return output;
}

void adopt_orphans() {
  require_system(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0, "prctl");
}

int end_descendants(std::chrono::nanoseconds timeout) {
  const auto reaped = [] {
    while (waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    return descendants();
  };
  std::vector<pid_t> left = reaped();
  for (const auto end = Clock::now() + timeout; !left.empty() && Clock::now() < end; left = reaped()) {
    std::this_thread::sleep_for(kRound);
  }
  const int ended = static_cast<int>(left.size());
  // A process that is killed hands its children to this one: look until there are none.
  constexpr int kMostRounds = 200;
  for (int round = 0; round < kMostRounds && !left.empty(); ++round, left = reaped()) {
    for (const pid_t process : left) (void)kill(process, SIGKILL);
    std::this_thread::sleep_for(kRound);
  }
  return ended;
}

int end_ranks_here(std::string_view variable, const std::string& job_id) {
  if (variable.empty() || job_id.empty()) return 0;
  const std::string setting = fmt::format("{}={}", variable, job_id);
  int ended = 0;
  std::error_code error;
  const fs::path own = fs::read_symlink("/proc/self/exe", error);
  for (const auto& [process, parent] : processes_and_parents()) {
    const fs::path folder = fmt::format("/proc/{}", process);
    if (process == getpid() || fs::read_symlink(folder / "exe", error) != own || error) continue;
    std::ifstream file(folder / "environ", std::ios::binary);
    bool of_job = false;
    bool of_launch = false;
    for (std::string entry; std::getline(file, entry, '\0');) {
      of_launch = of_launch || entry.starts_with("TUTTI_LAUNCH_RANKS=");
      of_job = of_job || entry == setting;
    }
    if (of_job && of_launch && kill(process, SIGKILL) == 0) ++ended;
  }
  return ended;
}

}  // namespace tutti
