#include <tutti/core/checkpoint/shared_work.h>
#include <tutti/core/error.h>
#include <tutti/core/interruption.h>
#include <tutti/core/io/sha256.h>
#include "core/affinity.h"
#include "core/start_thread.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <numeric>
#include <thread>

namespace tutti {
namespace {

constexpr size_t kMostMessages = 8;
constexpr std::chrono::seconds kSayEvery{10};

/// Thrown to end a unit's work early.
struct Cancelled {};

/// Units by rank, largest first.
std::vector<std::vector<size_t>> assignment(std::span<const int64_t> costs, int ranks) {
  std::vector<size_t> order(costs.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return costs[a] > costs[b]; });
  std::vector<std::vector<size_t>> units(static_cast<size_t>(ranks));
  std::vector<int64_t> load(static_cast<size_t>(ranks), 0);
  for (const size_t unit : order) {
    const auto least = std::min_element(load.begin(), load.end());
    *least += std::max<int64_t>(costs[unit], 1);
    units[static_cast<size_t>(least - load.begin())].push_back(unit);
  }
  return units;
}

/// This rank's units, processed by a few threads.
class Crew {
 public:
  Crew(const std::vector<size_t>& units, const SharedWork& options,
       FunctionRef<std::string(size_t, const WorkProgress&)> work)
      : units_(units), options_(options), work_(work), results_(units.size()) {}

  void run(int64_t cost, bool speaks) {
    std::vector<std::thread> threads;
    const size_t count = std::min(static_cast<size_t>(std::max(options_.threads, 1)), units_.size());
    working_ = count;
    threads.reserve(count);
    try {
      for (size_t i = 0; i < count; ++i) {
        threads.push_back(start_thread(options_.name, [this] { take_units(); }));
      }
    } catch (const Error&) {
      if (threads.empty()) throw;  // otherwise, those that run do it all
      const std::scoped_lock lock(mutex_);
      working_ -= count - threads.size();
    }
    {
      std::unique_lock lock(mutex_);
      while (!changed_.wait_for(lock, kSayEvery, [&] { return working_ == 0; })) {
        if (!speaks || !options_.log || cost <= 0) continue;
        options_.log(fmt::format("{}: {} %", options_.name, 100 * std::min(done_.load(), cost) / cost));
      }
    }
    for (std::thread& thread : threads) thread.join();
  }

  [[nodiscard]] bool was_cancelled() const { return cancelled_; }
  [[nodiscard]] const std::vector<std::string>& results() const { return results_; }
  [[nodiscard]] const std::vector<std::string>& problems() const { return problems_; }

 private:
  void take_units() {
    unbind_caller();
    const WorkProgress progress = [this](int64_t cost) {
      done_ += cost;
      if (options_.cancelled && options_.cancelled()) cancelled_ = true;
      if (cancelled_) throw Cancelled{};
    };
    for (size_t i = next_++; i < units_.size() && !cancelled_; i = next_++) {
      try {
        results_[i] = work_(units_[i], progress);
      } catch (const Cancelled&) {
        break;
      } catch (const Interrupted&) {
        cancelled_ = true;
        break;
      } catch (const std::exception& error) {
        const std::scoped_lock lock(mutex_);
        problems_.emplace_back(error.what());
      }
    }
    const std::scoped_lock lock(mutex_);
    --working_;
    changed_.notify_all();
  }

  const std::vector<size_t>& units_;
  const SharedWork& options_;
  FunctionRef<std::string(size_t, const WorkProgress&)> work_;
  std::vector<std::string> results_;
  std::vector<std::string> problems_;
  std::atomic<size_t> next_{0};
  std::atomic<int64_t> done_{0};
  std::atomic<bool> cancelled_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t working_ = 0;
};

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

}  // namespace

std::optional<std::vector<std::string>> share_work(
    std::span<const int64_t> costs, Peers& peers, const SharedWork& options,
    FunctionRef<std::string(size_t unit, const WorkProgress& progress)> work) {
  const auto units = assignment(costs, peers.size());
  const std::vector<size_t>& mine = units[static_cast<size_t>(peers.rank())];
  int64_t cost = 0;
  for (const size_t unit : mine) cost += costs[unit];
  Crew crew(mine, options, work);
  crew.run(cost, peers.rank() == 0);

  std::string problems;
  for (std::string problem : crew.problems()) {
    std::replace(problem.begin(), problem.end(), '\n', ' ');
    problems += problem + "\n";
  }
  std::vector<std::string> all;
  for (const std::string& of_rank : peers.all_gather(problems)) {
    for (std::string& line : lines_of(of_rank)) all.push_back(std::move(line));
  }
  if (!all.empty()) {
    std::sort(all.begin(), all.end());
    const size_t count = all.size();
    all.resize(std::min(count, kMostMessages));
    if (count > kMostMessages) all.push_back(fmt::format("and {} more", count - kMostMessages));
    throw AgreedError(fmt::format("{}", fmt::join(all, "\n")));
  }

  // The first letter encodes whether the work was cancelled on that rank.
  std::string text = crew.was_cancelled() ? "c\n" : "d\n";
  for (const std::string& result : crew.results()) text += result + "\n";
  const std::vector<std::string> texts = peers.all_gather(text);
  std::vector<std::string> results(costs.size());
  for (size_t rank = 0; rank < texts.size(); ++rank) {
    if (texts[rank].starts_with('c')) return std::nullopt;
    std::string_view rest = std::string_view(texts[rank]).substr(2);
    for (const size_t unit : units[rank]) {
      const size_t end = rest.find('\n');
      results[unit] = rest.substr(0, end);
      rest.remove_prefix(end + 1);
    }
  }
  return results;
}

std::string sha256_of_file(const std::filesystem::path& path, int64_t bytes, const WorkProgress& progress) {
  constexpr size_t kPiece = size_t{4} << 20;
  // Not mapped: a file that is truncated meanwhile must not kill the process.
  struct File {
    int number;
    ~File() {
      if (number >= 0) (void)::close(number);
    }
  };
  const File file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  const int open_error = errno;
  require(file.number >= 0, "{}: cannot open: {}", path.string(), system_error_text(open_error));
  struct stat status {};
  require(::fstat(file.number, &status) == 0 && S_ISREG(status.st_mode), "{}: not a regular file",
          path.string());
  (void)::posix_fadvise(file.number, 0, 0, POSIX_FADV_SEQUENTIAL);
  Sha256 hash;
  int64_t total = 0;
  std::vector<std::byte> piece(std::min(kPiece, static_cast<size_t>(status.st_size) + 1));
  for (;;) {
    const ssize_t got = ::read(file.number, piece.data(), piece.size());
    const int read_error = errno;
    if (got < 0 && read_error == EINTR) continue;
    require(got >= 0, "{}: cannot read: {}", path.string(), system_error_text(read_error));
    if (got == 0) break;
    hash.update(std::span(piece).first(static_cast<size_t>(got)));
    total += got;
    if (progress) progress(got);
  }
  require(bytes < 0 || total == bytes, "{}: {} bytes long, expected {}", path.string(), total, bytes);
  return hash.finish();
}

}  // namespace tutti
