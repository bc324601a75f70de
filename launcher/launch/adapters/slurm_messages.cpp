#include "launcher/launch/adapters/slurm_messages.h"

#include "launcher/launch/quoting.h"

#include <charconv>
#include <csignal>
#include <cstring>
#include <string>

namespace tutti {
namespace {

constexpr std::string_view kError = "srun: error: ";
constexpr std::string_view kNodeFailure = "Node failure on ";

/// "srun: error: node2: task 1: Killed", "srun: error: Node failure on node2".
std::string failed_host(std::string_view line) {
  if (!line.starts_with(kError)) return "";
  if (contains(line, kNodeFailure)) return host_after(line, kNodeFailure);
  const std::string host = host_after(line, kError);
  return line.substr(kError.size()).starts_with(host + ": task") ? host : "";
}

/// "srun: error: node2: tasks 0,2: Exited with exit code 3", "srun: error: node2: task 1: Segmentation
/// fault".
int exit_code(std::string_view line) {
  constexpr int kSignalBase = 128;
  constexpr int kMostSignals = 64;
  constexpr std::string_view kCode = "Exited with exit code ";
  if (!line.starts_with(kError)) return 0;
  const size_t task = line.find(": task");
  if (task == std::string_view::npos) return 0;
  const size_t colon = line.find(": ", task + 2);
  if (colon == std::string_view::npos) return 0;
  const std::string_view how = line.substr(colon + 2);
  if (how.starts_with(kCode)) {
    int code = 0;
    (void)std::from_chars(how.data() + kCode.size(), how.data() + how.size(), code);
    return code;
  }
  if (how.starts_with("Out Of Memory")) return kSignalBase + SIGKILL;
  for (int signal = 1; signal <= kMostSignals; ++signal) {
    const char* text = sigdescr_np(signal);
    if (text != nullptr && how.starts_with(text)) return kSignalBase + signal;
  }
  return 0;
}

bool is_out_of_memory(std::string_view line) {
  if (line.starts_with(kError)) return contains(line, ": task") && contains(line, ": Out Of Memory");
  // "slurmstepd: error: Detected 1 oom_kill event in StepId=4.0", "Detected 2 oom-kill event(s) in step 4.0
  // cgroup", "StepId=4.0 exceeded memory limit (2100 > 2048), being killed", "Exceeded job memory limit".
  if (!line.starts_with("slurmstepd")) return false;
  return contains(line, "oom_kill event") || contains(line, "oom-kill event") ||
         contains(line, "exceeded memory limit") ||
         (contains(line, "Exceeded ") && contains(line, " memory limit"));
}

}  // namespace

FailureMessage parse_slurm_message(std::string_view line) {
  const std::string host = failed_host(line);
  return {.host = host,
          .exit_code = exit_code(line),
          .host_lost = !host.empty() && contains(line, kNodeFailure),
          .killed = contains(line, "Killed"),
          .out_of_memory = is_out_of_memory(line),
          .consequence = contains(line, "Broken pipe"),
          .aborted = contains(line, "Job step aborted") ||
                     (contains(line, "*** STEP ") && contains(line, " CANCELLED AT "))};
}

}  // namespace tutti
