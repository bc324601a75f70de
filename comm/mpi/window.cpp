#include "comm/mpi/window.h"
#include "comm/mpi/handles.h"

#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <limits>

namespace tutti {
namespace {

/// Frees the group on every path.
class Group {
 public:
  Group() = default;
  ~Group() {
    if (group_ != MPI_GROUP_NULL) (void)MPI_Group_free(&group_);
  }
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;
  MPI_Group* address() { return &group_; }
  [[nodiscard]] MPI_Group handle() const { return group_; }

 private:
  MPI_Group group_ = MPI_GROUP_NULL;
};

MPI_Comm make_communicator(MPI_Comm world, const std::vector<int>& ranks, int tag) {
  Group all;
  Group chosen;
  MPI_Comm comm = MPI_COMM_NULL;
  check_mpi(MPI_Comm_group(world, all.address()), "MPI_Comm_group");
  check_mpi(MPI_Group_incl(all.handle(), static_cast<int>(ranks.size()), ranks.data(), chosen.address()),
            "MPI_Group_incl");
  check_mpi(MPI_Comm_create_group(world, chosen.handle(), tag, &comm), "MPI_Comm_create_group");
  check_mpi(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  return comm;
}

constexpr int64_t kPage = 4096;

/// MPI may put its own data before a part. Mappings begin on pages, so the same bytes have the same offset in
/// a page for all processes, and all of them round equally.
std::span<std::byte> aligned_part(void* base, int64_t bytes) {
  const auto address = reinterpret_cast<uintptr_t>(base);
  const uintptr_t skip = (kPage - address % kPage) % kPage;
  return {static_cast<std::byte*>(base) + skip, static_cast<size_t>(bytes)};
}

bool is_unified(MPI_Win window) {
  int* model = nullptr;
  int found = 0;
  check_mpi(MPI_Win_get_attr(window, MPI_WIN_MODEL, static_cast<void*>(&model), &found), "MPI_Win_get_attr");
  return found != 0 && *model == MPI_WIN_UNIFIED;
}

}  // namespace

struct SharedWindow::Window {
  MPI_Comm comm = MPI_COMM_NULL;
  MPI_Win win = MPI_WIN_NULL;
};

SharedWindow::SharedWindow() : window_(std::make_unique<Window>()) {}
SharedWindow::~SharedWindow() = default;

std::shared_ptr<SharedWindow> SharedWindow::make(MpiSession& session, const std::vector<int>& ranks, int tag,
                                                 int64_t bytes) {
  std::shared_ptr<SharedWindow> made(new SharedWindow);
  bool usable = false;
  session.run([&](const MpiHandles& handles) {
    MPI_Comm& comm = made->window_->comm;
    MPI_Win& win = made->window_->win;
    comm = make_communicator(handles.world, ranks, tag);
    MPI_Info info = MPI_INFO_NULL;
    check_mpi(MPI_Info_create(&info), "MPI_Info_create");
    // Each rank's part begins on a separate page, on the NUMA node of the core that touches it first.
    check_mpi(MPI_Info_set(info, "alloc_shared_noncontig", "true"), "MPI_Info_set");
    void* base = nullptr;
    const int code = MPI_Win_allocate_shared(static_cast<MPI_Aint>(bytes + kPage), 1, info, comm,
                                             static_cast<void*>(&base), &win);
    check_mpi(MPI_Info_free(&info), "MPI_Info_free");
    int mine = code == MPI_SUCCESS && is_unified(win) ? 1 : 0;
    int all = 0;
    check_mpi(MPI_Allreduce(&mine, &all, 1, MPI_INT, MPI_MIN, comm), "MPI_Allreduce");
    if (all == 0) {
      if (code == MPI_SUCCESS) check_mpi(MPI_Win_free(&win), "MPI_Win_free");
      check_mpi(MPI_Comm_free(&comm), "MPI_Comm_free");
      return;
    }
    check_mpi(MPI_Win_set_errhandler(win, MPI_ERRORS_RETURN), "MPI_Win_set_errhandler");
    check_mpi(MPI_Win_lock_all(MPI_MODE_NOCHECK, win), "MPI_Win_lock_all");
    made->me_ = static_cast<size_t>(std::find(ranks.begin(), ranks.end(), session.rank()) - ranks.begin());
    for (int i = 0; i < static_cast<int>(ranks.size()); ++i) {
      MPI_Aint size = 0;
      int unit = 0;
      void* part = nullptr;
      check_mpi(MPI_Win_shared_query(win, i, &size, &unit, static_cast<void*>(&part)),
                "MPI_Win_shared_query");
      made->parts_.push_back(aligned_part(part, bytes));
    }
    usable = true;
  });
  if (!usable) return nullptr;
  session.keep(made);
  return made;
}

int64_t SharedWindow::untouched_bytes() const {
  if (parts_.empty()) return 0;
  const std::span<std::byte> part = parts_[me_];
  std::vector<unsigned char> resident((part.size() + kPage - 1) / kPage);
  if (resident.empty() || mincore(part.data(), part.size(), resident.data()) != 0) return 0;
  return kPage *
         std::count_if(resident.begin(), resident.end(), [](unsigned char page) { return (page & 1U) == 0; });
}

void SharedWindow::release() {
  if (window_->win != MPI_WIN_NULL) {
    check_mpi(MPI_Win_unlock_all(window_->win), "MPI_Win_unlock_all");
    check_mpi(MPI_Win_free(&window_->win), "MPI_Win_free");
  }
  if (window_->comm != MPI_COMM_NULL) check_mpi(MPI_Comm_free(&window_->comm), "MPI_Comm_free");
  parts_.clear();
}

std::string shared_memory_folder() {
#ifdef OPEN_MPI
  if (const char* chosen = std::getenv("OMPI_MCA_osc_sm_backing_directory"); chosen != nullptr) return chosen;
#endif
  if (access("/dev/shm", W_OK) == 0) return "/dev/shm";
  const char* temporary = std::getenv("TMPDIR");
  return temporary != nullptr ? temporary : "/tmp";
}

int64_t free_shared_memory_bytes() {
  struct statvfs space {};
  constexpr int64_t kUnknown = std::numeric_limits<int64_t>::max();
  if (statvfs(shared_memory_folder().c_str(), &space) != 0) return kUnknown;
  if (space.f_blocks == 0) return kUnknown;  // a tmpfs without a limit
  return static_cast<int64_t>(space.f_bavail) * static_cast<int64_t>(space.f_frsize);
}

int64_t needed_shared_memory_bytes(int64_t bytes, int64_t ranks) {
  // Open MPI requires a twentieth to be free; the state of the window and its ranks is added.
  constexpr int64_t kOwn = int64_t{1} << 20;
  const int64_t windows = ranks * (bytes + 2 * kPage);
  return windows + windows / 16 + kOwn;
}

}  // namespace tutti
