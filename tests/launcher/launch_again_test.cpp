#include "launcher/launch/record.h"
#include "launcher/launch/supervisor.h"
#include "tests/launcher/launch_helpers.h"

#include <nlohmann/json.hpp>

#include <csignal>
#include <functional>
#include <sstream>

namespace tutti {
namespace {

using Reason = ExitStatus::Reason;

/// Ranks are a shell script, which is the whole command of the launch.
Rendered render_script(const LaunchSpec& spec, const Allocation&) {
  std::vector<std::string> argv{"/bin/sh", "-c", spec.executable, "ranks"};
  argv.insert(argv.end(), spec.command.begin(), spec.command.end());
  return {.argv = argv};
}

const Adapter& script_adapter() {
  static const Adapter kAdapter{.name = "local", .detect = nullptr, .render = &render_script, .commands = {}};
  return kAdapter;
}

/// Requeued and restarted jobs.
class AgainTest : public testing::Test {
 protected:
  // Ignored in processes that a shell starts in the background.
  AgainTest() { (void)std::signal(SIGINT, SIG_DFL); }

  /// Supervises a script in a separate directory, $TUTTI_RUN.
  ExitStatus supervise(const std::string& script) {
    LaunchSpec spec = train_spec();
    spec.executable = script;
    spec.run_directory = (folder_ / "run").string();
    spec.submission_directory = spec.run_directory;
    spec.grace_s = 1;
    here_.variables = {{"PATH", "/usr/bin:/bin"}, {"TUTTI_RUN", spec.run_directory}};
    here_.host = "here";
    std::ostringstream err;
    change_(spec);
    const ExitStatus exit_status = Supervisor(*adapter_, spec, allocation_, here_, err, timeouts_).run();
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
  Timeouts timeouts_{.term_s = 0.3, .request_interval_s = 0.1, .requeue_s = 0.01, .host_loss_s = 0.1};
  Allocation allocation_{.hosts = {{.name = "node1", .slots = 2}, {.name = "node2", .slots = 2}}};
  std::string messages_;
};

/// Ranks that save on request.
const std::string kSaves = "trap 'exit 75' USR1; ";

/// A scheduler that requeues a job on an exit code.
const Adapter& code_adapter() {
  static const Adapter kAdapter{
      .name = "local", .detect = nullptr, .render = &render_script, .commands = {.requeue_code = 75}};
  return kAdapter;
}

TEST_F(AgainTest, AnExitCodeRequeuesAJobOnlyAsIntended) {
  adapter_ = &code_adapter();
  allocation_.place = Allocation::Place::kInside;
  allocation_.job_id = "5678";
  change_ = [](LaunchSpec& spec) { spec.requeue = true; };
  const std::string save = "mkdir -p $TUTTI_RUN/checkpoints/step-0000000$$; ";
  EXPECT_EQ(supervise(save + kSaves + "kill -USR1 $PPID; while :; do sleep 0.02; done").exit_code, 75)
      << messages_;
  EXPECT_EQ(record()["state"], "submitted");
  // Ranks that ignored the warning, of a job with progress.
  EXPECT_EQ(supervise(save + "trap '' USR1; kill -USR1 $PPID; sleep 600").exit_code, 75) << messages_;
  // A cancelled job saves too, but must not be requeued.
  const ExitStatus cancelled = supervise(save + kSaves + "kill -TERM $PPID; while :; do sleep 0.02; done");
  EXPECT_EQ(cancelled.reason, Reason::kPreempted);
  EXPECT_EQ(cancelled.exit_code, 143);
  EXPECT_EQ(record()["state"], "ended");
  change_ = [](LaunchSpec&) {};
  EXPECT_EQ(supervise(save + kSaves + "kill -TERM $PPID; while :; do sleep 0.02; done").exit_code, 75)
      << "the scheduler does not use the exit code";
}

TEST_F(AgainTest, AJobThatCannotBeRequeuedSubmitsItsScriptAgain) {
  static const Adapter kAfter{
      .name = "pbs",
      .detect = nullptr,
      .render = &render_script,
      .commands = {.submit_after = {"/bin/sh", "-c", "echo \"$@\" >$TUTTI_RUN/arguments; echo 1235.srv",
                                    "qsub", "-W", "depend=afterany:{job}", "{directory}/launch.pbs"}}};
  adapter_ = &kAfter;
  allocation_.place = Allocation::Place::kInside;
  allocation_.job_id = "1234.srv";
  change_ = [](LaunchSpec& spec) { spec.requeue = true; };
  (void)supervise(kSaves + "kill -USR1 $PPID; while :; do sleep 0.02; done");
  EXPECT_EQ(written("arguments"),
            "-W depend=afterany:1234.srv " + (folder_ / "run/launch.pbs").string() + "\n");
  EXPECT_EQ(record()["job_id"], "1235.srv");
  EXPECT_EQ(record()["state"], "submitted");
  EXPECT_EQ(record()["attempts"].size(), 1U);
  EXPECT_NE(messages_.find("queued again, as 1235.srv"), std::string::npos) << messages_;

  static const Adapter kRefuses{
      .name = "pbs",
      .detect = nullptr,
      .render = &render_script,
      .commands = {.submit_after = {"/bin/sh", "-c", "echo 'qsub: Unauthorized Request' >&2; exit 1"}}};
  adapter_ = &kRefuses;
  EXPECT_EQ(supervise(kSaves + "kill -USR1 $PPID; while :; do sleep 0.02; done").exit_code, 75);
  EXPECT_NE(messages_.find("could not be queued again: qsub: Unauthorized Request"), std::string::npos)
      << messages_;
  EXPECT_EQ(record()["state"], "ended");
}

TEST_F(AgainTest, AScriptThatStartsAgainResumes) {
  const std::string script = R"(echo "$@" >>$TUTTI_RUN/arguments; exit 75)";
  const auto arguments = [&] {
    std::string text = written("arguments");
    std::filesystem::remove(folder_ / "run/arguments");
    return text;
  };
  allocation_.place = Allocation::Place::kInside;
  allocation_.job_id = "1234.srv";
  change_ = [](LaunchSpec& spec) { spec.batch = true; };
  (void)supervise(script);
  EXPECT_EQ(arguments(), "train run.yaml\n") << "at the first start";
  (void)supervise(script);
  EXPECT_EQ(arguments(), "train run.yaml --resume\n") << "by the scheduler";
  allocation_.job_id = "1299.srv";
  (void)supervise(script);
  EXPECT_EQ(arguments(), "train run.yaml --resume\n") << "by hand, as another job";
  allocation_.job_id = "";
  (void)supervise(script);
  EXPECT_EQ(arguments(), "train run.yaml --resume\n") << "in a pod, which has no job id";
  EXPECT_EQ(record()["job_id"], "1299.srv") << "the job id was not kept";
  // An interactive launch resumes only with --resume.
  change_ = [](LaunchSpec&) {};
  (void)supervise(script);
  EXPECT_EQ(arguments(), "train run.yaml\n");
  // A new submission does not resume.
  change_ = [](LaunchSpec& spec) { spec.batch = true; };
  std::ostringstream err;
  LaunchSpec spec = train_spec();
  spec.run_directory = spec.submission_directory = (folder_ / "run").string();
  {
    const LaunchRecord submitted(spec, {.scheduler = "pbs", .job_id = "1300.srv", .state = "submitted"}, err);
  }
  allocation_.job_id = "1300.srv";
  (void)supervise(script);
  EXPECT_EQ(arguments(), "train run.yaml\n");
}

TEST_F(AgainTest, ACombinationOfASweepResumesWithinItsSubmission) {
  const std::string script = R"(echo "$@" >>$TUTTI_RUN/arguments; exit 75)";
  std::ostringstream err;
  LaunchSpec whole = train_spec();
  whole.run_directory = whole.submission_directory = folder_.path().string();
  const auto submit = [&](const std::string& job) {
    const LaunchRecord submitted(whole, {.scheduler = "pbs", .job_id = job, .state = "submitted"}, err);
  };
  allocation_.place = Allocation::Place::kInside;
  change_ = [&](LaunchSpec& spec) {
    spec.batch = true;
    spec.submission_directory = whole.run_directory;
  };
  const auto start = [&](const std::string& job) {
    std::filesystem::remove(folder_ / "run/arguments");
    allocation_.job_id = job;
    (void)supervise(script);
    return written("arguments");
  };
  submit("1234[].srv");
  EXPECT_EQ(start("1234[0].srv"), "train run.yaml\n");
  EXPECT_EQ(start("1234[0].srv"), "train run.yaml --resume\n");
  submit("1240[].srv");
  EXPECT_EQ(start("1240[0].srv"), "train run.yaml\n") << "resumed from an earlier submission";
}

TEST_F(AgainTest, AFailedPreflightExcludesNoHost) {
  change_ = [](LaunchSpec& spec) { spec.command = {"preflight"}; };
  const ExitStatus exit_status =
      supervise("echo 'srun: error: node1: task 0: Exited with exit code 1' >&2; exit 1");
  EXPECT_EQ(exit_status.exit_code, 1);
  EXPECT_TRUE(exit_status.hosts.empty());
  EXPECT_EQ(messages_.find("error on node1"), std::string::npos) << messages_;
  EXPECT_FALSE(record()["attempts"][0].contains("blamed_hosts"));
}

}  // namespace
}  // namespace tutti
