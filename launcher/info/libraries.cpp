#include "launcher/info/libraries.h"

#include <tutti/core/error.h>
#include "core/system_check.h"
#include "kernels/cpu/blas.h"

#include <cairo.h>
#include <google/protobuf/stubs/common.h>
#include <hwloc.h>
#include <mpi.h>
#include <openssl/crypto.h>
#include <CLI/Version.hpp>
#include <boost/version.hpp>
#include <nlohmann/json.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>

namespace tutti {
namespace {

/// The result from the child process: binary, so that output of a crash cannot be mistaken for it.
struct ProbeReply {
  int rank = 0;
  int size = 1;
  int version = 0;
  int subversion = 0;
  int thread_level = 0;
};

std::string_view thread_level_name(int level) {
  if (level == MPI_THREAD_SINGLE) return "single";
  if (level == MPI_THREAD_FUNNELED) return "funneled";
  if (level == MPI_THREAD_SERIALIZED) return "serialized";
  return "multiple";
}

[[noreturn]] void answer_probe(int pipe) {
  ProbeReply reply;
  bool good = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &reply.thread_level) == MPI_SUCCESS;
  good = good && MPI_Comm_rank(MPI_COMM_WORLD, &reply.rank) == MPI_SUCCESS;
  good = good && MPI_Comm_size(MPI_COMM_WORLD, &reply.size) == MPI_SUCCESS;
  good = good && MPI_Get_version(&reply.version, &reply.subversion) == MPI_SUCCESS;
  good = good && MPI_Finalize() == MPI_SUCCESS;
  good = good && write(pipe, &reply, sizeof reply) == static_cast<ssize_t>(sizeof reply);
  _exit(good ? 0 : 1);
}

std::string hwloc_version() {
  const unsigned version = hwloc_get_api_version();
  return fmt::format("API {}.{}.{}", version >> 16U, (version >> 8U) & 255U, version & 255U);
}

/// "2.6.3" of "oneDNN 2.6.3".
std::string without_name(std::string version, std::string_view name) {
  if (version.starts_with(name)) version.erase(0, std::min(version.size(), name.size() + 1));
  return version;
}

}  // namespace

std::string mpi_library_version() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING + 1> text{};
  int length = 0;
  require(MPI_Get_library_version(text.data(), &length) == MPI_SUCCESS, "MPI_Get_library_version failed");
  // Some libraries count the terminating zero.
  const std::string all(text.data());
  const std::string line = all.substr(0, all.find('\n'));
  return line.substr(0, line.find_last_not_of(" \t") + 1);
}

std::vector<std::pair<std::string, std::string>> library_versions() {
  const std::string json = fmt::format("{}.{}.{}", NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR,
                                       NLOHMANN_JSON_VERSION_PATCH);
  std::vector<std::pair<std::string, std::string>> all{{"MPI", mpi_library_version()}};
  for (const auto& [library, label] :
       {std::pair{cpu::MathLibrary::kOneDnn, "oneDNN"}, {cpu::MathLibrary::kOpenBlas, "OpenBLAS"}}) {
    if (!cpu::has_math_library(library)) continue;
    all.emplace_back(label, without_name(cpu::math_library_version(library), label));
  }
  const std::vector<std::pair<std::string, std::string>> others{
      {"hwloc", hwloc_version()},
      {"OpenSSL", OpenSSL_version(OPENSSL_FULL_VERSION_STRING)},
      {"protobuf", google::protobuf::internal::VersionString(GOOGLE_PROTOBUF_VERSION)},
      {"cairo", cairo_version_string()},
      {"nlohmann-json", json},
      {"fmt", fmt::format("{}.{}.{}", FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100)},
      {"CLI11", CLI11_VERSION},
      {"Boost",
       fmt::format("{}.{}.{}", BOOST_VERSION / 100000, BOOST_VERSION / 100 % 1000, BOOST_VERSION % 100)},
  };
  all.insert(all.end(), others.begin(), others.end());
  return all;
}

MpiProbe probe_mpi() {
  std::array<int, 2> ends{};
  require_system(pipe(ends.data()) == 0, "pipe");
  const pid_t child = fork();
  require_system(child >= 0, "fork");
  if (child == 0) {
    (void)close(ends[0]);
    answer_probe(ends[1]);
  }
  (void)close(ends[1]);
  ProbeReply reply;
  ssize_t received = 0;
  do {
    received = read(ends[0], &reply, sizeof reply);
  } while (received < 0 && errno == EINTR);
  (void)close(ends[0]);
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    require_system(errno == EINTR, "waitpid");
  }
  MpiProbe probe;
  if (received != static_cast<ssize_t>(sizeof reply) || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    probe.error = "MPI could not be initialised in this environment";
    return probe;
  }
  probe.rank = reply.rank;
  probe.size = reply.size;
  probe.standard = fmt::format("{}.{}", reply.version, reply.subversion);
  probe.thread_level = thread_level_name(reply.thread_level);
  return probe;
}

}  // namespace tutti
