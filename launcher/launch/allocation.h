#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tutti {

/// One machine of an allocation.
struct Host {
  std::string name;
  int64_t slots = 1;  ///< ranks that the scheduler assigns to it; in placed_hosts(): ranks that will run
  int64_t cores = 0;  ///< 0: unknown
  int64_t gpus = 0;
};

/// Where a launch was called, and the resources that it may use.
struct Allocation {
  enum class Place : uint8_t {
    kHere,    ///< without a scheduler: this machine, or a list of machines
    kInside,  ///< inside a job
    kLogin,   ///< on a machine that jobs are submitted from
  };
  Place place = Place::kHere;
  std::string job_id;          ///< inside a job
  std::vector<Host> hosts;     ///< empty on a login node, and where the environment does not name them
  std::string host_file;       ///< a file of them that MPI's own launcher can read
  int64_t cores_per_rank = 0;  ///< as the job requested; 0: it did not
  bool in_step = false;        ///< inside a job's step, which has cores and memory of its own
  int64_t array_index = -1;    ///< of a job array; -1 outside of one
  int64_t requeues = 0;        ///< times that the scheduler has started this job again
};

}  // namespace tutti
