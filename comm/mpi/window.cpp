#include <tutti/comm/mpi/handles.h>
#include <tutti/comm/mpi/window.h>

namespace tutti {
namespace {

/// Frees on every way out.
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

/// MPI may put its own data in front of a part. Mappings begin on pages, so the same bytes lie at the same
/// place in a page for all processes and all of them round alike.
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
    // Each rank's part begins on a page of its own, near the core that touches it first.
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

void SharedWindow::release() {
  if (window_->win != MPI_WIN_NULL) {
    check_mpi(MPI_Win_unlock_all(window_->win), "MPI_Win_unlock_all");
    check_mpi(MPI_Win_free(&window_->win), "MPI_Win_free");
  }
  if (window_->comm != MPI_COMM_NULL) check_mpi(MPI_Comm_free(&window_->comm), "MPI_Comm_free");
  parts_.clear();
}

}  // namespace tutti
