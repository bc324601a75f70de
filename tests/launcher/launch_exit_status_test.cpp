#include "launcher/launch/child.h"
#include "launcher/launch/host_failure.h"
#include "launcher/launch/supervisor.h"
#include "launcher/overwrite.h"
#include "tests/launcher/launch_helpers.h"

#include <fmt/ranges.h>

#include <csignal>
#include <fstream>
#include <string>
#include <vector>

namespace tutti {
namespace {

using Reason = ExitStatus::Reason;

TEST(ExitStatusTest, Labels) {
  const auto of = [](const ExitEvidence& facts) { return classify(facts); };
  EXPECT_EQ(of({.exit_code = 0}).reason, Reason::kDone);
  EXPECT_EQ(of({.exit_code = 75}).reason, Reason::kPreempted);
  EXPECT_EQ(of({.exit_code = 1, .stop_requested = true, .run_reason = "stopped"}).exit_code, 75);
  EXPECT_EQ(of({.exit_code = 1, .stop_requested = true}).reason, Reason::kStopped);
  EXPECT_EQ(of({.exit_code = 137}).reason, Reason::kKilled);
  EXPECT_EQ(of({.exit_code = 137, .oom_kills = 1}).reason, Reason::kOutOfMemory);
  EXPECT_EQ(of({.exit_code = 1, .oom_kills = 1}).exit_code, 137);
  EXPECT_EQ(of({.exit_code = 0, .oom_kills = 1}).reason, Reason::kDone);
  EXPECT_EQ(of({.exit_code = 139}).signal, SIGSEGV);
  EXPECT_EQ(of({.exit_code = 205}).reason, Reason::kHostLost);
  EXPECT_EQ(of({.exit_code = 9, .bare_signals = true}).reason, Reason::kKilled);
  EXPECT_EQ(of({.exit_code = 9, .bare_signals = true}).exit_code, 137);
  EXPECT_EQ(of({.exit_code = 11, .bare_signals = true}).exit_code, 139);
  EXPECT_EQ(of({.exit_code = 1, .bare_signals = true}).reason, Reason::kError);
  EXPECT_EQ(of({.exit_code = 9}).reason, Reason::kError);
  EXPECT_EQ(of({.exit_code = 2}).reason, Reason::kUsage);
  EXPECT_EQ(of({.exit_code = 3}).reason, Reason::kError);
  EXPECT_NE(of({.exit_code = 255}).text.find("could not be started on all hosts"), std::string::npos);
  EXPECT_NE(of({.exit_code = 134, .hosts = {"node2"}}).text.find("SIGABRT, an abort on node2"),
            std::string::npos);
}

int slurm_code(std::string_view line) {
  return adapter_named("slurm").parse_message(line).exit_code;
}

TEST(ExitStatusTest, ExitMessagesOfSlurm) {
  EXPECT_EQ(slurm_code("srun: error: node2: task 1: Killed"), 137);
  EXPECT_EQ(slurm_code("srun: error: node2: tasks 2-3: Segmentation fault (core dumped)"), 139);
  EXPECT_EQ(slurm_code("srun: error: node2: tasks 0,2: Exited with exit code 3"), 3);
  EXPECT_EQ(slurm_code("srun: error: node2: task 1: Out Of Memory"), 137);
  EXPECT_EQ(slurm_code("srun: error: Node failure on node3"), 0);
  EXPECT_EQ(slurm_code("a rank says: task 1: Killed"), 0);
  for (const char* line :
       {"srun: error: node1: task 1: Out Of Memory",
        "slurmstepd: error: Detected 1 oom_kill event in StepId=8.0. Some of the step tasks "
        "have been OOM Killed.",
        "slurmstepd: error: Detected 2 oom-kill event(s) in step 8.0 cgroup. Some of your "
        "processes may have been killed by the cgroup out-of-memory handler.",
        "slurmstepd-node1: error: StepId=8.0 exceeded memory limit (2100 > 2048), being killed",
        "slurmstepd: error: Exceeded job memory limit"}) {
    EXPECT_TRUE(adapter_named("slurm").parse_message(line).out_of_memory) << line;
    FailureAttribution attribution;
    attribution.read_line(line);
    const ExitStatus exit_status = classify({.exit_code = 1,
                                             .saw_memory = attribution.saw_memory(),
                                             .hosts = attribution.hosts(),
                                             .memory_option = adapter_named("slurm").memory_option});
    EXPECT_EQ(exit_status.reason, Reason::kOutOfMemory) << line;
    EXPECT_EQ(exit_status.exit_code, 137);
    EXPECT_NE(exit_status.text.find("--mem="), std::string::npos);
  }
  for (const char* line : {"step 3: Out Of Memory", "srun: error: node1: task 1: Killed", "oom_kill event",
                           "srun: Job step aborted: Waiting up to 32 seconds for job step to finish."}) {
    EXPECT_FALSE(adapter_named("slurm").parse_message(line).out_of_memory) << line;
  }
}

TEST(ExitStatusTest, TheFirstFailureCounts) {
  // A rank ended with an error; the supervisor ended the others, and srun returns the highest code.
  EXPECT_EQ(classify({.exit_code = 137, .first_code = 1}).reason, Reason::kError);
  EXPECT_EQ(classify({.exit_code = 137, .first_code = 139}).signal, SIGSEGV);
  EXPECT_EQ(classify({.exit_code = 0, .first_code = 1}).reason, Reason::kDone);
  const ExitStatus isolated =
      classify({.exit_code = 137, .saw_loss = true, .isolated = true, .hosts = {"node2"}});
  EXPECT_EQ(isolated.reason, Reason::kIsolated);
  EXPECT_EQ(isolated.exit_code, 205);
  EXPECT_TRUE(isolated.hosts.empty());
  EXPECT_FALSE(is_restartable(isolated, true));
  EXPECT_EQ(classify({.exit_code = 255}).reason, Reason::kNotStarted);
}

/// The hosts that are attributed by one message of a launch.
std::string blamed_host(std::string_view line) {
  FailureAttribution attribution;
  attribution.read_line(line);
  return fmt::format("{}", fmt::join(attribution.hosts(), " "));
}

TEST(ExitStatusTest, HostsInMessages) {
  EXPECT_EQ(
      blamed_host("mpirun noticed that process rank 1 with PID 4711 on node gpu-07 exited on signal 9."),
      "gpu-07");
  EXPECT_EQ(blamed_host("  Remote daemon: [[49042,0],1] on node node2"), "node2");
  EXPECT_EQ(blamed_host("srun: error: node2: task 1: Killed"), "node2");
  EXPECT_EQ(blamed_host("srun: error: node2: tasks 2-3: Terminated"), "node2");
  EXPECT_EQ(blamed_host("srun: error: Node failure on node3"), "node3");
  for (const char* line : {"", "HNP daemon   : [[49042,0],0] on node node1", "step 3: on node node2",
                           "srun: error: Unable to create step: task 1", "  Remote daemon: on node $(id)"}) {
    EXPECT_EQ(blamed_host(line), "") << line;
  }
}

TEST(ExitStatusTest, ConsequencesOfAFailureAreNotAttributed) {
  // Messages of Slurm 22.05 when rank 2 was killed.
  FailureAttribution attribution;
  for (const char* line :
       {"srun: error: node1: task 0: Broken pipe", "srun: launch/slurm: _step_signal: Terminating StepId=3.0",
        "srun: error: node2: task 2: Killed",
        "slurmstepd-node1: error: *** STEP 3.0 ON node1 CANCELLED AT 2026-11-23T10:20:50 ***",
        "srun: Job step aborted: Waiting up to 7 seconds for job step to finish.",
        "srun: error: node3: task 3: Killed", "srun: error: node1: task 1: Killed"}) {
    attribution.read_line(line);
  }
  EXPECT_EQ(attribution.hosts(), std::vector<std::string>{"node2"});
  EXPECT_TRUE(attribution.saw_kill());
  const ExitStatus exit_status = classify({.exit_code = 141, .saw_kill = true, .hosts = attribution.hosts()});
  EXPECT_EQ(exit_status.reason, Reason::kKilled);
  EXPECT_EQ(exit_status.exit_code, 137);
}

TEST(ExitStatusTest, OnlyTheLostHostIsAttributed) {
  // Messages of Slurm 22.05 when a node does not respond.
  FailureAttribution attribution;
  for (const char* line :
       {"srun: error: Node failure on node2", "srun: error: node1: task 0: Killed",
        "srun: launch/slurm: _step_signal: Terminating StepId=4.0", "srun: error: node3: task 2: Killed"}) {
    attribution.read_line(line);
  }
  EXPECT_EQ(attribution.hosts(), std::vector<std::string>{"node2"});
  EXPECT_TRUE(attribution.saw_loss());
  const ExitStatus exit_status = classify(
      {.exit_code = 137, .saw_kill = attribution.saw_kill(), .saw_loss = true, .hosts = attribution.hosts()});
  EXPECT_EQ(exit_status.reason, Reason::kHostLost);
  EXPECT_EQ(exit_status.exit_code, 205);
}

TEST(ExitStatusTest, MemoryCountersOfBothKindsOfControlGroups) {
  const TemporaryDirectory root;
  EXPECT_EQ(oom_kills("0::/nowhere\n", root.path()), 0);
  EXPECT_EQ(oom_kills("", root.path()), 0);
  std::filesystem::create_directories(root / "slurm/uid_0/job_7/step_batch");
  write_all(root / "slurm/uid_0/job_7/memory.events",
            "low 0\nhigh 3\nmax 9\noom 2\noom_kill 2\noom_group_kill 0\n");
  write_all(root / "slurm/uid_0/job_7/step_batch/memory.events", "oom_kill 0\n");
  EXPECT_EQ(oom_kills("0::/slurm/uid_0/job_7/step_batch\n", root.path()), 2);
  std::filesystem::create_directories(root / "memory/docker/x");
  write_all(root / "memory/docker/x/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n");
  EXPECT_EQ(oom_kills("12:cpu,cpuacct:/docker/x\n9:memory:/docker/x\n0::/\n", root.path()), 5);
}

TEST(ExitStatusTest, RestartsAndTheirDelays) {
  EXPECT_TRUE(is_restartable({.reason = Reason::kHostLost}, false));
  EXPECT_FALSE(is_restartable({.reason = Reason::kError}, false));
  EXPECT_TRUE(is_restartable({.reason = Reason::kError}, true));
  EXPECT_FALSE(is_restartable({.reason = Reason::kOutOfMemory}, false));
  for (const Reason reason : {Reason::kDone, Reason::kPreempted, Reason::kStopped, Reason::kUsage}) {
    EXPECT_FALSE(is_restartable({.reason = reason}, true));
  }
  const Timeouts timeouts{.first_wait_s = 2, .max_wait_s = 60};
  EXPECT_EQ(wait_before_restart_s(timeouts, 1), 2);
  EXPECT_EQ(wait_before_restart_s(timeouts, 3), 8);
  EXPECT_EQ(wait_before_restart_s(timeouts, 6), 60);
  EXPECT_EQ(wait_before_restart_s(timeouts, 1000), 60);
}

TEST(ChildTest, ResultsOfCommands) {
  const Variables variables{{"PATH", "/usr/bin:/bin"}, {"A", "x y"}};
  const Output output = run_to_end({"sh", "-c", "echo \"$A\"; echo bad >&2; exit 7"}, variables, 10);
  EXPECT_EQ(output.exit_code, 7);
  EXPECT_EQ(output.out, "x y\n");
  EXPECT_EQ(output.err, "bad\n");
  EXPECT_EQ(run_to_end({"sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x"}, variables, 10).out.size(),
            300000U);
  EXPECT_EQ(run_to_end({"sh", "-c", "kill -KILL $$"}, variables, 10).exit_code, 137);
  const TemporaryDirectory folder;
  write_all(folder / "in", "text");
  EXPECT_EQ(run_to_end({"cat"}, variables, 10, (folder / "in").string()).out, "text");
  EXPECT_EQ(run_to_end({"cat"}, variables, 10).out, "");
  EXPECT_THROW((void)run_to_end({"no-such-program"}, variables, 10), Error);
  EXPECT_THROW((void)run_to_end({(folder / "in").string()}, variables, 10), Error);
  EXPECT_THROW((void)run_to_end({"sleep", "600"}, variables, 0.2), Error);
}

TEST(OverwriteTest, AFileIsOverwrittenInPlaceWithoutOtherSpace) {
  const TemporaryDirectory folder;
  const std::filesystem::path path = folder / "record";
  write_or_overwrite(path, "first");
  EXPECT_EQ(read_all(path), "first");
  const auto inode = [&] { return std::filesystem::last_write_time(path); };
  const auto before = inode();
  write_or_overwrite(path, "first");
  EXPECT_EQ(inode(), before) << "a new file was created";
  EXPECT_THROW(write_or_overwrite(folder / "nowhere/record", "text"), Error);
}
}  // namespace
}  // namespace tutti
