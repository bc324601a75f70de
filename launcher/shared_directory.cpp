#include "launcher/shared_directory.h"

#include "comm/placement/placement.h"

#include <tutti/core/error.h>
#include "core/system_check.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace tutti {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// A network file system may cache for some seconds that a name does not exist.
constexpr std::chrono::seconds kVisibleWithin{10};
constexpr std::chrono::milliseconds kPoll{200};

/// Identifies a file-system view: a host, or a container on a host.
std::string place_of_files() {
  std::error_code error;
  return host_name() + " " + fs::read_symlink("/proc/self/ns/mnt", error).string();
}

std::string drawn_name() {
  std::random_device random;
  return fmt::format(".seen-by-all-{:08x}{:08x}", random(), random());
}

void make(const fs::path& path) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
  require_system(file >= 0, "{}: cannot create", path.string());
  (void)close(file);
}

/// Why a file is not visible on this host; empty if it is.
std::string problem_with(const fs::path& path) {
  for (const auto end = Clock::now() + kVisibleWithin;; std::this_thread::sleep_for(kPoll)) {
    if (access(path.c_str(), F_OK) == 0) return "";
    const int problem = errno;
    if (Clock::now() > end) return problem == ENOENT ? "does not exist" : system_error_text(problem);
    // Reading a directory makes a network file system ask its server again.
    std::error_code error;
    (void)fs::directory_iterator(path.parent_path(), error);
    (void)fs::directory_iterator(fs::absolute(path.parent_path(), error).parent_path(), error);
  }
}

}  // namespace

void check_all_hosts_share(const fs::path& directory, std::string_view key, Peers& peers) {
  const std::vector<std::string> places = peers.all_gather(place_of_files());
  const std::string& mine = places[static_cast<size_t>(peers.rank())];
  if (std::count(places.begin(), places.end(), places.front()) == static_cast<int64_t>(places.size())) return;
  const fs::path probe = directory / peers.broadcast(peers.rank() == 0 ? drawn_name() : "");
  peers.agree([&] {
    if (peers.rank() == 0) make(probe);
  });
  const bool looks = mine != places.front() &&
                     std::find(places.begin(), places.end(), mine) - places.begin() == peers.rank();
  const std::string problem = looks ? problem_with(probe) : "";
  std::vector<std::string> blind =
      peers.all_gather(problem.empty() ? "" : fmt::format("{} ({})", host_name(), problem));
  if (peers.rank() == 0) {
    std::error_code error;
    fs::remove(probe, error);
  }
  std::erase(blind, "");
  peers.agree([&] {
    require(blind.empty(),
            "{} {}: all hosts must share this directory, but a file that {} has just written there is not "
            "visible on {}. Choose a {} on a file system that all hosts of the run share",
            key, directory.string(), places.front().substr(0, places.front().find(' ')),
            fmt::join(blind, ", "), key);
  });
}

void make_shared_directory(const fs::path& directory, std::string_view key, Peers& peers) {
  peers.agree([&] {
    if (peers.rank() != 0) return;
    std::error_code error;
    fs::create_directories(directory, error);
    require(!error, "{} {}: cannot be created: {}", key, directory.string(), error.message());
  });
  check_all_hosts_share(directory, key, peers);
}

}  // namespace tutti
