#include "launcher/launch/host_failure.h"
#include "launcher/launch/record.h"
#include "launcher/launch/supervisor.h"
#include "tests/launcher/launch_helpers.h"

#include <nlohmann/json.hpp>

#include <unistd.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <functional>
#include <iterator>
#include <sstream>

namespace tutti {
namespace {

using Reason = ExitStatus::Reason;
using Clock = std::chrono::steady_clock;

/// A scheduler whose ranks are a shell script, the whole command of the launch, with the hosts in $HOSTS.
Rendered render_script(const LaunchSpec& spec, const Allocation& allocation) {
  std::string hosts;
  for (const Host& host : placed_hosts(spec, allocation)) hosts += host.name + " ";
  std::vector<std::string> argv{"/bin/sh", "-c", spec.executable, "ranks"};
  argv.insert(argv.end(), spec.command.begin(), spec.command.end());
  return {.variables = {{"HOSTS", hosts}}, .argv = argv};
}

const Adapter& script_adapter() {
  static const Adapter kAdapter{
      .name = "local",
      .detect = nullptr,
      .render = &render_script,
      .commands = {.requeue = {"/bin/sh", "-c", "echo \"$0\" >>\"$TUTTI_RUN/queued\""}}};
  return kAdapter;
}

class SupervisorTest : public testing::Test {
 protected:
  // Ignored in processes that a shell starts in the background.
  SupervisorTest() { (void)std::signal(SIGINT, SIG_DFL); }

  /// Supervises a script in a separate directory, $RUN.
  ExitStatus supervise(const std::string& script, int64_t restarts = 0) {
    LaunchSpec spec = train_spec();
    spec.executable = script;
    spec.run_directory = (folder_ / "run").string();
    spec.submission_directory = spec.run_directory;
    spec.grace_s = 1;
    spec.restarts = restarts;
    here_.variables = {{"PATH", "/usr/bin:/bin"}, {"TUTTI_RUN", spec.run_directory}};
    here_.host = "here";
    std::ostringstream err;
    change_(spec);
    Supervisor supervisor(*adapter_, spec, allocation_, here_, err, timeouts_);
    const ExitStatus exit_status = supervisor.run();
    messages_ = err.str();
    return exit_status;
  }
  [[nodiscard]] nlohmann::json record() const {
    return nlohmann::json::parse(read_all(folder_ / "run/launch.json"));
  }
  [[nodiscard]] std::string written(const std::string& name) const {
    return read_all(folder_ / ("run/" + name));
  }

  TemporaryDirectory folder_;
  Environment here_;
  const Adapter* adapter_ = &script_adapter();
  std::function<void(LaunchSpec&)> change_ = [](LaunchSpec&) {};
  Timeouts timeouts_{.first_wait_s = 0.01,
                     .max_wait_s = 0.02,
                     .term_s = 0.3,
                     .request_interval_s = 0.1,
                     .requeue_s = 0.01,
                     .host_loss_s = 0.1,
                     .rank_failure_s = 0.2,
                     .exit_s = 0.2};
  Allocation allocation_{.hosts = {{.name = "node1", .slots = 2}, {.name = "node2", .slots = 2}}};
  std::string messages_;
};

TEST_F(SupervisorTest, ASuccessfulEnd) {
  EXPECT_EQ(supervise("exit 0", 3).reason, Reason::kDone);
  EXPECT_EQ(record()["state"], "ended");
  EXPECT_EQ(record()["exit_code"], 0);
  ASSERT_EQ(record()["attempts"].size(), 1U);
  EXPECT_EQ(record()["attempts"][0]["hosts"][1]["host"], "node2");
  EXPECT_EQ(messages_, "");
}

TEST_F(SupervisorTest, AStarterThatWaitsForALostHostIsEnded) {
  // mpirun waits for daemons that cannot respond.
  const std::string script =
      "echo '  Remote daemon: [[1,0],1] on node node2' >&2; [ \"$HOSTS\" = 'node1 ' ] && exit 0; exec sleep "
      "600";
  EXPECT_EQ(supervise(script, 1).reason, Reason::kDone);
  EXPECT_EQ(record()["attempts"][0]["reason"], "host lost");
  EXPECT_EQ(record()["attempts"][0]["exit_code"], 205);
  EXPECT_EQ(record()["attempts"][1]["hosts"].size(), 1U);
}

TEST_F(SupervisorTest, AReproducibleErrorEndsTheLaunch) {
  const ExitStatus exit_status = supervise("echo bad key >&2; exit 1", 3);
  EXPECT_EQ(exit_status.reason, Reason::kError);
  EXPECT_EQ(exit_status.exit_code, 1);
  EXPECT_EQ(record()["attempts"].size(), 1U);
  EXPECT_NE(messages_.find("bad key"), std::string::npos);
}

TEST_F(SupervisorTest, AKilledRankIsRestartedWithResumeUpToTheLimit) {
  const ExitStatus exit_status = supervise(R"(echo "$@" >>$TUTTI_RUN/arguments; kill -KILL $$)", 2);
  EXPECT_EQ(exit_status.reason, Reason::kKilled);
  EXPECT_EQ(exit_status.exit_code, 137);
  EXPECT_EQ(record()["attempts"].size(), 3U);
  EXPECT_EQ(record()["attempts"][2]["signal"], SIGKILL);
  EXPECT_EQ(written("arguments"), "train run.yaml\ntrain run.yaml --resume\ntrain run.yaml --resume\n");
}

TEST_F(SupervisorTest, AnErrorAfterACheckpointIsRestarted) {
  const ExitStatus exit_status = supervise(
      R"(if [ "$3" = --resume ]; then exit 0; fi; mkdir -p $TUTTI_RUN/checkpoints/step-00000010; exit 1)", 1);
  EXPECT_EQ(exit_status.reason, Reason::kDone);
  EXPECT_EQ(record()["attempts"].size(), 2U);
}

TEST_F(SupervisorTest, ASignalLetsTheRanksSave) {
  const ExitStatus exit_status = supervise(
      R"(trap 'echo asked >$TUTTI_RUN/asked; exit 75' USR1; kill -TERM $PPID; while :; do sleep 0.05; done)",
      3);
  EXPECT_EQ(exit_status.reason, Reason::kPreempted);
  EXPECT_EQ(exit_status.exit_code, 75);
  EXPECT_EQ(written("asked"), "asked\n");
  EXPECT_EQ(record()["reason"], "preempted and saved");
  EXPECT_EQ(record()["attempts"].size(), 1U);
}

TEST_F(SupervisorTest, TheSummaryTakesPrecedenceOverTheExitCode) {
  const ExitStatus exit_status = supervise(
      R"(trap 'echo "{\"steps\": 5, \"world_size\": 2, \"loss\": 1, \"val_loss\": null, \"val_accuracy\": null,
           \"tokens_per_s\": 1, \"wall_s\": 1, \"peak_memory_bytes\": 1, \"params_sha256\": \"\",
           \"exit_reason\": \"stopped\"}" >$TUTTI_RUN/summary.json; exit 1' USR1
         kill -INT $PPID; while :; do sleep 0.05; done)");
  EXPECT_EQ(exit_status.reason, Reason::kPreempted);
  EXPECT_EQ(exit_status.exit_code, 75);
}

TEST_F(SupervisorTest, RanksThatDoNotStopAreEnded) {
  const ExitStatus exit_status =
      supervise("trap '' USR1 TERM; kill -TERM $PPID; while :; do sleep 0.05; done", 3);
  EXPECT_EQ(exit_status.reason, Reason::kStopped);
  EXPECT_EQ(exit_status.exit_code, 137);
  EXPECT_EQ(record()["attempts"].size(), 1U);
}

TEST_F(SupervisorTest, ASecondSignalDoesNotWait) {
  change_ = [](LaunchSpec& spec) { spec.grace_s = 600; };
  const auto begin = Clock::now();
  (void)supervise(
      "trap 'exit 1' TERM; trap '' USR1; kill -INT $PPID; sleep 0.2; kill -INT $PPID; while :; do sleep "
      "0.05; done");
  EXPECT_LT(Clock::now() - begin, std::chrono::seconds(300));
}

TEST_F(SupervisorTest, AMissedRequestIsRepeated) {
  // As in mpirun during its start: the first SIGUSR1 is lost.
  const ExitStatus exit_status =
      supervise(R"(trap 'trap "exit 75" USR1' USR1; kill -TERM $PPID; while :; do sleep 0.02; done)");
  EXPECT_EQ(exit_status.reason, Reason::kPreempted) << messages_;
}

TEST_F(SupervisorTest, AWarnedJobWithProgressIsRequeued) {
  allocation_.place = Allocation::Place::kInside;
  allocation_.job_id = "4711";
  timeouts_.first_wait_s = timeouts_.max_wait_s = 60;
  change_ = [](LaunchSpec& spec) { spec.requeue = true; };
  const std::string save = "mkdir -p $TUTTI_RUN/checkpoints/step-0000000$$; ";
  const auto queued = [&](const std::string& script) {
    std::filesystem::remove(folder_ / "run/queued");
    (void)supervise(script, 1);
    return std::filesystem::exists(folder_ / "run/queued");
  };
  EXPECT_TRUE(queued(save + "kill -USR1 $PPID; sleep 0.05; exit 75"));
  EXPECT_EQ(written("queued"), "4711\n");
  EXPECT_TRUE(queued(save + "trap '' USR1; kill -USR1 $PPID; sleep 600"));
  EXPECT_FALSE(queued("trap '' USR1; kill -USR1 $PPID; sleep 600")) << "requeued without progress";
  EXPECT_FALSE(queued(save + "kill -TERM $PPID; sleep 0.3; exit 75")) << "requeued after a cancellation";
}

TEST_F(SupervisorTest, RanksOfAKilledStarterAreEnded) {
  // Programs of a fake scheduler: they list the steps of the job and end them.
  static const Adapter kSteps{.name = "local",
                              .detect = nullptr,
                              .render = &render_script,
                              .commands = {.cancel = {"/bin/sh", "-c", "echo \"$0\" >>\"$TUTTI_RUN/ended\""},
                                           .steps = {"/bin/sh", "-c", "cat \"$TUTTI_RUN/steps\""},
                                           .parse_steps = adapter_named("slurm").commands.parse_steps}};
  adapter_ = &kSteps;
  allocation_.place = Allocation::Place::kInside;
  allocation_.job_id = "4711";
  std::filesystem::create_directories(folder_ / "run");
  write_all(folder_ / "run/steps", "4711.0\n4711.batch\n");
  const std::string script = "echo 4711.1 >>$TUTTI_RUN/steps; echo 4711.extern >>$TUTTI_RUN/steps; ";
  (void)supervise(script + "exit 1");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "run/ended"))
      << "a starter that ends by itself has ended its ranks";
  write_all(folder_ / "run/steps", "4711.0\n4711.batch\n");
  (void)supervise(script + "kill -KILL $$");
  EXPECT_EQ(written("ended"), "4711.1\n");
}

TEST_F(SupervisorTest, RemainingRanksAreEndedAfterAFailure) {
  // srun waits for them; on SIGTERM it kills them.
  const ExitStatus exit_status = supervise(
      "trap 'echo told >$TUTTI_RUN/told; exit 137' TERM; echo 'srun: error: node2: task 2: Killed' >&2; "
      "while :; "
      "do sleep 0.05; done");
  EXPECT_EQ(written("told"), "told\n");
  EXPECT_EQ(exit_status.reason, Reason::kKilled);
  EXPECT_EQ(exit_status.hosts, std::vector<std::string>{"node2"});
  // A starter that ignores SIGTERM, after a rank that ended with an error.
  const ExitStatus deaf = supervise(
      "trap '' TERM; echo 'srun: error: node2: task 2: Exited with exit code 3' >&2; while :; do sleep 0.05; "
      "done");
  EXPECT_EQ(deaf.reason, Reason::kError);
  EXPECT_EQ(deaf.exit_code, 3);
}

TEST_F(SupervisorTest, ARankThatHasSavedDoesNotEndOthers) {
  const ExitStatus exit_status = supervise(
      "trap 'exit 137' TERM; echo 'srun: error: node2: task 2: Exited with exit code 75' >&2; sleep 1; exit "
      "75");
  EXPECT_EQ(exit_status.reason, Reason::kPreempted);
}

TEST_F(SupervisorTest, ProcessesThatEndByThemselvesAreNotReported) {
  EXPECT_EQ(supervise("(sleep 0.1 &); exit 0").reason, Reason::kDone);
  EXPECT_EQ(messages_, "");
}

TEST_F(SupervisorTest, AJobRequeuedByItsSchedulerIsSubmitted) {
  static const Adapter kRestarts{.name = "local",
                                 .detect = nullptr,
                                 .render = &render_script,
                                 .commands = {.restarts = {"/bin/sh", "-c", "echo 1"}}};
  adapter_ = &kRestarts;
  allocation_.place = Allocation::Place::kInside;
  allocation_.job_id = "4711";
  const std::string script = "trap 'exit 75' USR1; kill -TERM $PPID; while :; do sleep 0.05; done";
  EXPECT_EQ(supervise(script).reason, Reason::kPreempted);
  EXPECT_EQ(record()["state"], "submitted");
  allocation_.requeues = 1;  // this attempt is the requeued one
  (void)supervise(script);
  EXPECT_EQ(record()["state"], "ended");
}

TEST_F(SupervisorTest, ALostHostIsReturnedToTheScheduler) {
  static const Adapter kShrinks{
      .name = "local",
      .detect = nullptr,
      .render = &render_script,
      .shrink = [](const std::string& job, const std::vector<std::string>& kept) {
        return ShrinkCommand{
            .argv = {"/bin/sh", "-c", "echo \"$0 $@\" >>$TUTTI_RUN/kept; [ -z \"$SLURM_JOBID\" ]", job,
                     kept.front()},
            .unset = {"SLURM_JOBID"}};
      }};
  adapter_ = &kShrinks;
  allocation_.place = Allocation::Place::kInside;
  allocation_.job_id = "4711";
  const ExitStatus exit_status = supervise(
      R"(echo $HOSTS >>$TUTTI_RUN/hosts
         case "$HOSTS" in *node2*) echo "srun: error: Node failure on node2" >&2; exit 1;; esac)",
      2);
  EXPECT_EQ(exit_status.reason, Reason::kDone) << messages_;
  EXPECT_EQ(written("hosts"), "node1 node2\nnode1\n");
  EXPECT_EQ(written("kept"), "4711 node1\n");
  EXPECT_NE(messages_.find("node2 is excluded from the next attempts; 1 hosts remain"), std::string::npos)
      << messages_;
}

TEST(LossesTest, SilenceIsClassified) {
  EXPECT_EQ(classify_silence(0, 3, 1, 1), HostFailure::kNone);
  EXPECT_EQ(classify_silence(1, 3, 1, 1), HostFailure::kOtherHosts);
  EXPECT_EQ(classify_silence(3, 3, 0, 1), HostFailure::kOtherHosts) << "the controller responds";
  EXPECT_EQ(classify_silence(3, 3, 1, 1), HostFailure::kThisHost);
  EXPECT_EQ(classify_silence(1, 1, 2, 2), HostFailure::kThisHost);
  EXPECT_EQ(classify_silence(1, 1, 1, 2), HostFailure::kOtherHosts) << "a second controller responds";
  EXPECT_EQ(classify_silence(1, 1, 0, 0), HostFailure::kOtherHosts) << "there is no other host to query";
  EXPECT_EQ(classify_silence(2, 2, 0, 0), HostFailure::kThisHost);
}

TEST_F(SupervisorTest, NohupIsRespected) {
  struct sigaction before {};
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  ASSERT_EQ(sigaction(SIGHUP, &ignore, &before), 0);
  const ExitStatus exit_status = supervise("kill -HUP $PPID; sleep 0.3; exit 0");
  ASSERT_EQ(sigaction(SIGHUP, &before, nullptr), 0);
  EXPECT_EQ(exit_status.reason, Reason::kDone) << messages_;
  EXPECT_EQ(messages_, "");
}

TEST_F(SupervisorTest, AFailedRecordDoesNotEndTheLaunch) {
  // A folder in its place, because the test cannot fill the disk.
  const ExitStatus exit_status = supervise(
      "[ -e $TUTTI_RUN/launch.json/x ] && exit 0; rm $TUTTI_RUN/launch.json; mkdir -p "
      "$TUTTI_RUN/launch.json/x; "
      "kill -KILL $$",
      1);
  EXPECT_EQ(exit_status.reason, Reason::kDone) << messages_;
  EXPECT_NE(messages_.find("launch.json"), std::string::npos) << messages_;
}

TEST_F(SupervisorTest, AnEarlierSummaryIsIgnored) {
  const std::string summary =
      R"({"steps": 5, "world_size": 2, "loss": 1, "val_loss": null, "val_accuracy": null, "tokens_per_s": 1,
          "wall_s": 1, "peak_memory_bytes": 1, "params_sha256": "", "exit_reason": "stopped"})";
  std::filesystem::create_directories(folder_ / "run");
  write_all(folder_ / "run/summary.json", summary);
  // Written with a clock that is ahead of this machine's.
  std::filesystem::last_write_time(folder_ / "run/summary.json",
                                   std::filesystem::file_time_type::clock::now() + std::chrono::hours(1));
  EXPECT_EQ(supervise("exit 1").reason, Reason::kError);
  // Written with a clock that is behind.
  EXPECT_EQ(supervise("touch -d '1 hour ago' $TUTTI_RUN/summary.json; exit 1").reason, Reason::kPreempted);
}

TEST_F(SupervisorTest, RemainingProcessesAreEnded) {
  (void)supervise(
      "setsid sleep 1000 & echo $! >$TUTTI_RUN/pid; trap '' TERM; (setsid sh -c 'sleep 1000' &); exit 3");
  const auto pid = static_cast<pid_t>(std::stol(written("pid")));
  EXPECT_EQ(kill(pid, 0), -1);
  EXPECT_NE(messages_.find("that were left"), std::string::npos) << messages_;
}

TEST_F(SupervisorTest, AHostThatFailedTwiceIsExcluded) {
  const ExitStatus exit_status = supervise(
      R"(echo $HOSTS >>$TUTTI_RUN/hosts
         case "$HOSTS" in *node2*)
           echo "mpirun noticed that process rank 1 with PID 0 on node node2 exited on signal 9 (Killed)." >&2
           kill -KILL $$;; esac)",
      5);
  EXPECT_EQ(exit_status.reason, Reason::kDone);
  EXPECT_EQ(written("hosts"), "node1 node2\nnode1 node2\nnode1\n");
}

TEST_F(SupervisorTest, ALostHostIsExcludedAtOnce) {
  const ExitStatus exit_status = supervise(
      R"(echo $HOSTS >>$TUTTI_RUN/hosts
         case "$HOSTS" in *node2*)
           echo "  Remote daemon: [[1,0],2] on node node2" >&2
           exit 205;; esac)",
      5);
  EXPECT_EQ(exit_status.reason, Reason::kDone);
  EXPECT_EQ(written("hosts"), "node1 node2\nnode1\n");
  EXPECT_EQ(record()["attempts"][0]["blamed_hosts"][0], "node2");
}

TEST_F(SupervisorTest, SecretsAreNotPassedToRanks) {
  here_.variables["GITHUB_TOKEN"] = "x";
  (void)supervise("env >$TUTTI_RUN/env; echo ranks $TUTTI_LAUNCH_RANKS >>$TUTTI_RUN/env");
  EXPECT_EQ(written("env").find("GITHUB_TOKEN"), std::string::npos);
  EXPECT_NE(written("env").find("ranks 4\n"), std::string::npos);
}

}  // namespace
}  // namespace tutti
