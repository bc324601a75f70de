#include "launcher/launch/mpi_library.h"

#include <tutti/core/error.h>

#include <array>
#include <charconv>

namespace tutti {
namespace {

using Family = MpiLibrary::Family;

struct Sign {
  std::string_view text;
  Family family;
  std::string_view name;
};

// In this order: the texts of earlier libraries also contain those of later ones.
constexpr std::array kLibrarySigns{
    Sign{"Open MPI", Family::kOpenMpi, "Open MPI"},  Sign{"Intel(R) MPI", Family::kIntel, "Intel MPI"},
    Sign{"CRAY MPICH", Family::kCray, "Cray MPICH"}, Sign{"MVAPICH", Family::kMvapich, "MVAPICH"},
    Sign{"MPICH", Family::kMpich, "MPICH"},
};

constexpr std::array kMpirunSigns{
    Sign{"Open MPI", Family::kOpenMpi, "Open MPI"}, Sign{"OpenRTE", Family::kOpenMpi, "Open MPI"},
    Sign{"prterun", Family::kOpenMpi, "Open MPI"},  Sign{"Intel(R) MPI", Family::kIntel, "Intel MPI"},
    Sign{"HYDRA", Family::kMpich, "MPICH"},
};

/// "4.1.4" at the first digit after `begin`.
std::string version_after(std::string_view text, size_t begin) {
  const size_t first = text.find_first_of("0123456789", begin);
  if (first == std::string_view::npos) return "";
  return std::string(text.substr(first, text.find_first_not_of("0123456789.", first) - first));
}

template <size_t n>
MpiLibrary parse(std::string_view text, const std::array<Sign, n>& signs) {
  for (const Sign& sign : signs) {
    const size_t found = text.find(sign.text);
    if (found == std::string_view::npos) continue;
    MpiLibrary library{.family = sign.family};
    const std::string version = version_after(text, found + sign.text.size());
    (void)std::from_chars(version.data(), version.data() + version.size(), library.major_version);
    library.name = fmt::format("{} {}", sign.name, version);
    return library;
  }
  return {.name = "an unknown MPI library"};
}

}  // namespace

bool runs_under_hydra(const MpiLibrary& library) {
  return library.family == Family::kMpich || library.family == Family::kIntel ||
         library.family == Family::kMvapich;
}

std::string mpirun_name(const MpiLibrary& library,
                        const std::function<bool(std::string_view program)>& has_program) {
  std::string_view own;
  if (library.family == Family::kOpenMpi) own = "mpirun.openmpi";
  if (library.family == Family::kMpich) own = "mpirun.mpich";
  return !own.empty() && has_program(own) ? std::string(own) : "mpirun";
}

MpiLibrary parse_mpi_library(std::string_view version) {
  return parse(version, kLibrarySigns);
}

MpiLibrary parse_mpirun_version(std::string_view text) {
  MpiLibrary library = parse(text, kMpirunSigns);
  if (library.family == Family::kOther) library.name = "an unknown program";
  return library;
}

void check_mpirun(const MpiLibrary& built_with, std::string_view mpirun_version) {
  const MpiLibrary found = parse_mpirun_version(mpirun_version);
  if (found.family == built_with.family) return;
  if (runs_under_hydra(built_with) && runs_under_hydra(found)) return;
  if (built_with.family == Family::kOther || built_with.family == Family::kCray) return;
  fail(
      "mpirun on the PATH is {}, this tutti is built with {}: each rank would be a world of one. Put the "
      "mpirun of {} first on the PATH, or name it by --mpirun PATH",
      found.name, built_with.name, built_with.name);
}

}  // namespace tutti
