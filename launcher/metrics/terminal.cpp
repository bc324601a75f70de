#include "launcher/metrics/terminal.h"

#include <fmt/format.h>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <climits>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string_view>

namespace tutti {
namespace {

constexpr int kUnknownWidth = 80;

/// The terminal device of a process's standard output; empty if it is not a terminal or cannot be determined.
std::string output_device(pid_t process) {
  std::array<char, PATH_MAX> target{};
  const ssize_t length =
      readlink(fmt::format("/proc/{}/fd/1", process).c_str(), target.data(), target.size() - 1);
  if (length <= 0) return "";
  const std::string name(target.data(), static_cast<size_t>(length));
  return name.starts_with("/dev/pts/") || name.starts_with("/dev/tty") || name == "/dev/console" ? name : "";
}

struct Process {
  pid_t id = 0;
  pid_t parent = 0;
  std::string program;
};

Process read_process(pid_t id) {
  std::ifstream file(fmt::format("/proc/{}/stat", id));
  std::string text;
  std::getline(file, text);
  // "id (program) state parent ...": the program's name may contain spaces and parentheses.
  const size_t open = text.find('(');
  const size_t close = text.rfind(')');
  if (open == std::string::npos || close == std::string::npos || close < open) return {};
  Process process{.id = id, .parent = 0, .program = text.substr(open + 1, close - open - 1)};
  std::istringstream rest(text.substr(close + 1));
  char state = 0;
  rest >> state >> process.parent;
  return process;
}

bool is_launcher(std::string_view program) {
  static constexpr std::array<std::string_view, 9> kLaunchers{"mpirun",  "mpiexec",       "orterun",
                                                              "prterun", "prte",          "orted",
                                                              "prted",   "mpiexec.hydra", "hydra_pmi_proxy"};
  return std::find(kLaunchers.begin(), kLaunchers.end(), program) != kLaunchers.end();
}

bool has_codeset(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text.find("utf-8") != std::string::npos || text.find("utf8") != std::string::npos;
}

}  // namespace

Terminal Terminal::find() {
  const char* const kind = std::getenv("TERM");
  if (kind != nullptr && std::string_view(kind) == "dumb") return {};
  // The outermost launcher among the ancestors: mpirun, not its helpers.
  pid_t watched = 0;
  Process ancestor = read_process(getppid());
  for (int depth = 0; depth < 32 && ancestor.id > 1; ++depth) {
    if (is_launcher(ancestor.program)) watched = ancestor.id;
    ancestor = read_process(ancestor.parent);
  }
  if (watched != 0) return Terminal(output_device(watched));
  return isatty(STDOUT_FILENO) == 1 ? Terminal(output_device(getpid())) : Terminal();
}

int Terminal::width() const {
  if (!present()) return kUnknownWidth;
  const int fd = open(device_.c_str(), O_RDONLY | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return kUnknownWidth;
  winsize size{};
  const bool known = ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  (void)close(fd);
  return known ? size.ws_col : kUnknownWidth;
}

bool Terminal::unicode() {
  for (const char* const name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* const value = std::getenv(name);
    if (value != nullptr && *value != '\0') return has_codeset(value);
  }
  return false;
}

}  // namespace tutti
