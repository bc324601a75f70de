#include "launcher/launch/jobs.h"
#include "launcher/launch/submit.h"
#include "tests/launcher/launch_helpers.h"

#include <map>
#include <sstream>

namespace tutti {
namespace {

TEST(JobsTest, LastLines) {
  EXPECT_EQ(last_lines("a\nb\nc\n", 2), "b\nc\n");
  EXPECT_EQ(last_lines("a\nb\nc", 1), "c");
  EXPECT_EQ(last_lines("a\nb\n", 5), "a\nb\n");
  EXPECT_EQ(last_lines("a\nb\n", 0), "");
  EXPECT_EQ(last_lines("a\nb\n", -1), "a\nb\n");
  EXPECT_EQ(last_lines("", 3), "");
}

/// A directory with programs of a fake Slurm that record their arguments.
class FakeSlurmTest : public testing::Test {
 protected:
  FakeSlurmTest() {
    for (const char* name : {"sbatch", "squeue", "scancel"}) {
      write_all(folder_ / name, std::string("#!/bin/sh\necho ") + name + R"( "$@" >>")" +
                                    (folder_ / "calls").string() + "\"\n" +
                                    (std::string(name) == "sbatch" ? "echo 4711\n" : "echo answer\n"));
      std::filesystem::permissions(folder_ / name, std::filesystem::perms::owner_all);
    }
    here_.variables = {{"PATH", folder_.path().string() + ":/usr/bin:/bin"}, {"SLURM_CONF", "x"}};
    here_.host = "login";
    here_.has_program = [this](std::string_view name) {
      return std::filesystem::exists(folder_ / std::string(name));
    };
    here_.has_file = [](const std::string&) { return false; };
  }
  TemporaryDirectory folder_;
  Environment here_;
};

TEST_F(FakeSlurmTest, FromSubmissionToCancel) {
  LaunchSpec spec = train_spec();
  spec.run_directory = spec.submission_directory = (folder_ / "runs/a b").string();
  const Detected found = detect(here_, spec);
  ASSERT_EQ(found.adapter->name, "slurm");
  std::ostringstream out;
  std::ostringstream err;
  submit(*found.adapter, spec, found.adapter->render(spec, found.allocation), here_, out, err);
  EXPECT_TRUE(out.str().starts_with("4711\n")) << out.str();
  const std::string script = spec.run_directory + "/launch.sbatch";
  EXPECT_EQ(read_all(folder_ / "calls"), "sbatch --parsable " + script + "\n");
  EXPECT_TRUE(read_all(script).starts_with("#!/bin/bash\n#SBATCH "));

  const NamedJob job = find_job(spec.run_directory, here_);
  EXPECT_EQ(job.id, "4711");
  EXPECT_EQ(job.record.state, "submitted");
  EXPECT_EQ(job.record.log, spec.run_directory + "/launch-4711.log");
  EXPECT_THROW(print_log(job, {}, here_, out), Error);
  write_all(job.record.log, "one\ntwo\n");
  std::ostringstream log;
  print_log(job, {.lines = 1}, here_, log);
  EXPECT_EQ(log.str(), "two\n");
  cancel_job(job, here_, out);
  EXPECT_EQ(list_jobs(here_, "runs", out), 0);
  cancel_job(find_job("4712", here_), here_, out);
  EXPECT_EQ(read_all(folder_ / "calls"), "sbatch --parsable " + script +
                                             "\nsqueue --noheader --jobs 4711\nscancel 4711\nsqueue --me\n"
                                             "squeue --noheader --jobs 4712\nscancel 4712\n");
  write_all(folder_ / "squeue", "#!/bin/sh\nexit 0\n");
  EXPECT_THROW(cancel_job(find_job("4713", here_), here_, out), Error);
  for (const char* bad : {"$(id)", "-x", "", "a b"}) EXPECT_THROW((void)find_job(bad, here_), Error) << bad;
}

TEST_F(FakeSlurmTest, AJobsIdIsNeverAnOption) {
  const auto id = [&](const std::string& scheduler, const std::string& text) {
    write_all(folder_ / "launch.json", R"({"format": "tutti-launch", "scheduler": ")" + scheduler +
                                           R"(", "job_id": ")" + text + "\"}");
    return find_job(folder_.path().string(), here_).id;
  };
  EXPECT_EQ(id("kubernetes", "ml/gpt"), "ml/gpt");
  EXPECT_EQ(id("slurm", "4711_2"), "4711_2");
  for (const char* const bad : {"ml/--all", "-n/gpt", "ml/", "/gpt", "--all", "ml/$(id)"}) {
    EXPECT_THROW((void)id("kubernetes", bad), Error) << bad;
  }
  EXPECT_THROW((void)id("slurm", "--me"), Error);
}

TEST_F(FakeSlurmTest, ARunDirectoryThatAJobUsesIsRefused) {
  LaunchSpec spec = train_spec();
  spec.run_directory = spec.submission_directory = (folder_ / "run").string();
  const Detected found = detect(here_, spec);
  std::ostringstream out;
  std::ostringstream err;
  check_unused(spec, here_);
  submit(*found.adapter, spec, found.adapter->render(spec, found.allocation), here_, out, err);
  try {
    check_unused(spec, here_);
    ADD_FAILURE() << "a second job for one run directory was accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("job 4711 is pending or running there"), std::string::npos)
        << error.what();
  }
  LaunchSpec next = spec;
  next.after = {"4711"};
  check_unused(next, here_);
  // A job that has ended does not block the directory, nor does a scheduler that does not respond.
  write_all(folder_ / "squeue", "#!/bin/sh\nexit 0\n");
  check_unused(spec, here_);
  write_all(folder_ / "squeue", "#!/bin/sh\necho 4711\necho 'cannot contact' >&2\nexit 1\n");
  check_unused(spec, here_);
}

TEST_F(FakeSlurmTest, FollowingALogEndsWithTheJob) {
  LaunchSpec spec = train_spec();
  spec.run_directory = spec.submission_directory = (folder_ / "run").string();
  const Detected found = detect(here_, spec);
  std::ostringstream out;
  std::ostringstream err;
  submit(*found.adapter, spec, found.adapter->render(spec, found.allocation), here_, out, err);
  const NamedJob job = find_job(spec.run_directory, here_);
  const auto answer = [&](const std::string& script) {
    write_all(folder_ / "squeue", "#!/bin/sh\n" + script);
  };
  answer("exit 0\n");
  EXPECT_TRUE(has_ended(job, here_));
  answer("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1\n");
  EXPECT_TRUE(has_ended(job, here_));
  answer("echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1\n");
  EXPECT_FALSE(has_ended(job, here_));
}

TEST_F(FakeSlurmTest, AJobWhoseRecordCannotBeWrittenIsReported) {
  LaunchSpec spec = train_spec();
  spec.run_directory = spec.submission_directory = (folder_ / "run").string();
  write_all(folder_ / "sbatch",
            "#!/bin/sh\nmkdir -p '" + spec.run_directory + "/launch.json/x'\necho 4711\n");
  const Detected found = detect(here_, spec);
  std::ostringstream out;
  std::ostringstream err;
  submit(*found.adapter, spec, found.adapter->render(spec, found.allocation), here_, out, err);
  EXPECT_EQ(out.str(), "4711\n");
  EXPECT_NE(err.str().find("`tutti cancel 4711` ends it"), std::string::npos) << err.str();
}

TEST_F(FakeSlurmTest, TheLogOfAPodIsFollowed) {
  write_all(folder_ / "kubectl", "#!/bin/sh\necho \"$@\"; echo more\n");
  std::filesystem::permissions(folder_ / "kubectl", std::filesystem::perms::owner_all);
  write_all(folder_ / "launch.json",
            R"({"format": "tutti-launch", "scheduler": "kubernetes", "job_id": "ml/gpt"})");
  const NamedJob job = find_job(folder_.path().string(), here_);
  std::ostringstream out;
  print_log(job, {.lines = 3}, here_, out);
  EXPECT_EQ(out.str(), "logs --tail=3 --namespace ml job/gpt-launcher\nmore\n");
  out.str("");
  print_log(job, {.follow = true}, here_, out);
  EXPECT_EQ(out.str(), "logs --namespace ml job/gpt-launcher --follow\nmore\n");
  write_all(folder_ / "kubectl", "#!/bin/sh\nexit 1\n");
  EXPECT_THROW(print_log(job, {.follow = true}, here_, out), Error);
}

/// Programs of another scheduler; one script for all of them, with the program's name as $1.
class FakeSchedulerTest : public testing::Test {
 protected:
  /// A launch into run directory `name` by `scheduler`, whose submission prints `id`; returns the recorded
  /// job.
  NamedJob submitted(const std::string& scheduler, const std::string& id, const std::string& name = "run") {
    for (const char* program : {"qsub", "qstat", "qdel", "bsub", "bjobs", "bkill", "flux", "kubectl"}) {
      write_all(folder_ / program,
                "#!/bin/sh\nname=" + std::string(program) + "\n. '" + (folder_ / "answers").string() + "'\n");
      std::filesystem::permissions(folder_ / program, std::filesystem::perms::owner_all);
    }
    here_.variables = {{"PATH", folder_.path().string() + ":/usr/bin:/bin"}};
    here_.host = "login";
    here_.has_program = [](std::string_view) { return true; };
    here_.has_file = [](const std::string&) { return false; };
    answer("echo \"$name $*\" >>'" + calls().string() + "'; echo '" + id + "'");
    spec_ = train_spec();
    spec_.scheduler = scheduler;
    spec_.image = "tutti";
    spec_.volume = "work";
    spec_.working_directory = folder_.path().string();
    spec_.run_directory = spec_.submission_directory = (folder_ / name).string();
    const Detected found{&adapter_named(scheduler), {.place = Allocation::Place::kLogin}};
    std::ostringstream out;
    std::ostringstream err;
    submit(*found.adapter, spec_, found.adapter->render(spec_, found.allocation), here_, out, err);
    EXPECT_EQ(err.str(), "");
    std::filesystem::remove(calls());
    return find_job(spec_.run_directory, here_);
  }
  void answer(const std::string& script) { write_all(folder_ / "answers", script + "\n"); }
  [[nodiscard]] std::filesystem::path calls() const { return folder_ / "calls"; }
  [[nodiscard]] bool is_free() const {
    try {
      check_unused(spec_, here_);
    } catch (const Error&) {
      return false;
    }
    return true;
  }

  TemporaryDirectory folder_;
  Environment here_;
  LaunchSpec spec_;
};

TEST_F(FakeSchedulerTest, IdsOfAllFormsAreRecognised) {
  struct Case {
    std::string scheduler, printed, id, runs, ended, unknown, query, cancel;
  };
  const std::string sign = "\xC6\x92";
  const std::string conditions =
      R"(get mpijob --output=jsonpath={.metadata.name} {.status.conditions[?(@.status=="True")].type})";
  const std::vector<Case> cases{
      {"flux", sign + "2Wk7dCu", sign + "2Wk7dCu", "RUN", "INACTIVE", "flux-jobs: ERROR: JobID x unknown",
       "flux jobs -n --format={state} " + sign + "2Wk7dCu", "flux cancel " + sign + "2Wk7dCu"},
      {"flux", "f2Wk7dCu", "f2Wk7dCu", "SCHED", "INACTIVE", "flux-jobs: ERROR: JobID x unknown",
       "flux jobs -n --format={state} f2Wk7dCu", "flux cancel f2Wk7dCu"},
      {"pbs", "1234[].srv", "1234[].srv", "Job Id: 1234[].srv\n    job_state = B", "    job_state = F",
       "qstat: Unknown Job Id 1234[].srv", "qstat -f 1234[].srv", "qdel 1234[].srv"},
      {"pbs", "1234.srv", "1234.srv", "    job_state = R", "    job_state = F",
       "qstat: 1234.srv Job has finished", "qstat -f 1234.srv", "qdel 1234.srv"},
      {"torque", "88.torque", "88.torque", "    job_state = Q", "    job_state = C",
       "qstat: Unknown Job Id 88.torque", "qstat -f 88.torque", "qdel 88.torque"},
      {"lsf", "Job <123> is submitted to queue <normal>.", "123", "DONE\nPEND", "DONE\nEXIT",
       "Job <123> is not found", "bjobs -noheader -o stat 123", "bkill 123"},
      {"kubernetes", "ml/gpt", "ml/gpt", "gpt Created Running", "gpt Created Succeeded",
       "Error from server (NotFound): mpijobs \"gpt\" not found",
       "kubectl " + conditions + " --namespace ml gpt", "kubectl delete mpijob --namespace ml gpt"}};
  for (const Case& c : cases) {
    const NamedJob job = submitted(c.scheduler, c.printed);
    EXPECT_EQ(job.id, c.id);
    const std::string note = "echo \"$name $*\" >>'" + calls().string() + "'; ";
    answer(note + "echo '" + c.runs + "'");
    EXPECT_FALSE(has_ended(job, here_)) << c.runs;
    EXPECT_FALSE(is_free()) << c.id << ": a second job for one run directory was accepted";
    spec_.after = {c.id};
    if (c.scheduler != "kubernetes") {
      check(spec_);
      EXPECT_TRUE(is_free()) << c.id;
    }
    spec_.after.clear();
    std::filesystem::remove(calls());
    std::ostringstream out;
    cancel_job(job, here_, out);
    EXPECT_EQ(read_all(calls()), c.query + "\n" + c.cancel + "\n");
    answer("echo '" + c.ended + "'");
    EXPECT_TRUE(has_ended(job, here_)) << c.ended;
    EXPECT_TRUE(is_free()) << c.id;
    EXPECT_THROW(cancel_job(job, here_, out), Error);
    answer("echo '" + c.unknown + "' >&2; exit 1");
    EXPECT_TRUE(has_ended(job, here_)) << c.unknown;
    answer("echo 'cannot reach the server' >&2; exit 1");
    EXPECT_FALSE(has_ended(job, here_)) << c.id;
  }
}

TEST_F(FakeSchedulerTest, AnIdIdentifiesAJob) {
  (void)submitted("flux", "f2Wk7dCu");
  here_.variables["FLUX_URI"] = "local:///x";
  here_.has_program = [](std::string_view name) { return name == "flux"; };
  for (const char* const id : {"\xC6\x92"
                               "2Wk7dCu",
                               "f2Wk7dCu", "1234"})
    EXPECT_EQ(find_job(id, here_).id, id);
  for (const char* const bad : {"$(id)", "-x", "--all", "1234[", "\xC6\x92"})
    EXPECT_THROW((void)find_job(bad, here_), Error);
  spec_.after = {
      "\xC6\x92"
      "2Wk7dCu"};
  answer("echo RUN");
  EXPECT_TRUE(is_free()) << "the id of the same job in Flux's other format";
}

TEST_F(FakeSchedulerTest, LogsOfACombinationOfASweep) {
  const auto log = [&](const NamedJob& whole, const std::string& index,
                       const std::map<std::string, std::string>& logs) {
    const std::filesystem::path directory = whole.directory / index;
    std::filesystem::create_directories(directory);
    write_all(directory / "launch.json", R"({"format": "tutti-launch", "scheduler": ")" +
                                             whole.record.scheduler +
                                             R"(", "job_id": "9", "state": "ended"})");
    for (const auto& [name, text] : logs) write_all(whole.directory / name, text);
    std::ostringstream out;
    try {
      print_log(find_job(directory.string(), here_), {}, here_, out);
    } catch (const Error& error) {
      out << error.what();
    }
    for (const auto& [name, text] : logs) std::filesystem::remove(whole.directory / name);
    return out.str();
  };
  const NamedJob pbs = submitted("pbs", "1234[].srv", "pbs");
  EXPECT_EQ(log(pbs, "001", {{"launch-1234[0].srv.log", "zero"}, {"launch-1234[1].srv.log", "one"}}), "one");
  EXPECT_EQ(log(pbs, "000", {{"launch-1234.srv.log", "all"}}), "all") << "one job for all combinations";
  const std::string none = log(pbs, "002", {{"launch-1234[0].srv.log", "zero"}});
  EXPECT_NE(none.find("no log; the job has ended"), std::string::npos) << none;
  const NamedJob lsf = submitted("lsf", "Job <123> is submitted", "lsf");
  EXPECT_EQ(log(lsf, "000",
                {{"launch-123_1.log", "first"}, {"launch-123_2.log", "second"}, {"launch-123_11.log", "no"}}),
            "first");
  const NamedJob slurm = submitted("pbs", "4711", "slurm");
  write_all(slurm.directory / "launch.json",
            R"({"format": "tutti-launch", "scheduler": "slurm", "job_id": "4711"})");
  const NamedJob again = find_job(slurm.directory.string(), here_);
  EXPECT_EQ(log(again, "010", {{"launch-4711_10.log", "ten"}, {"launch-4711_0.log", "zero"}}), "ten");
}

TEST(JobsTest, AnUnreadableRecordDoesNotHideOthers) {
  const TemporaryDirectory folder;
  Environment here;
  here.host = "here";
  here.has_program = [](std::string_view) { return false; };
  here.has_file = [](const std::string&) { return false; };
  for (const char* name : {"a", "b", "c"}) std::filesystem::create_directories(folder / "runs" / name);
  write_all(folder / "runs/a/launch.json", "{\"format\": ");
  write_all(folder / "runs/b/launch.json", R"({"format": "tutti-launch", "state": "ended"})");
  std::ostringstream out;
  EXPECT_EQ(list_jobs(here, folder / "runs", out), 0);
  EXPECT_NE(out.str().find("not the record of a launch"), std::string::npos) << out.str();
  EXPECT_NE(out.str().find("ended\n"), std::string::npos) << out.str();
}

TEST_F(FakeSlurmTest, ForeignFilesAreNotOverwritten) {
  LaunchSpec spec = train_spec();
  spec.run_directory = spec.submission_directory = (folder_ / "run").string();
  spec.sweep = {parse_sweep_axis("optimizer.learning_rate=0.1,0.2")};
  const Detected found = detect(here_, spec);
  const Rendered rendered = found.adapter->render(spec, found.allocation);
  EXPECT_NO_THROW(check_own_files(spec, rendered)) << "no files";
  std::ostringstream out;
  std::ostringstream err;
  submit(*found.adapter, spec, rendered, here_, out, err);
  EXPECT_NO_THROW(check_own_files(spec, rendered)) << "files of an earlier launch";

  const auto why = [&](const std::filesystem::path& path) {
    std::string message;
    try {
      check_own_files(spec, rendered);
    } catch (const Error& error) {
      message = error.what();
    }
    EXPECT_TRUE(message.starts_with(path.string() + ": ")) << message;
    return message;
  };
  const std::filesystem::path run = folder_ / "run";
  std::filesystem::create_directories(run / "001");
  write_all(folder_ / "mine", "mine");
  for (const std::filesystem::path& path :
       {run / "launch.json", run / "launch.sbatch", run / "001" / "launch.json", run / "preflight.json"}) {
    const std::string before = read_all(path);
    write_all(path, "{\"name\": \"mine\"}");
    EXPECT_NE(why(path).find("was not written by `tutti launch`"), std::string::npos);
    std::filesystem::remove(path);
    std::filesystem::create_symlink(folder_ / "mine", path);
    EXPECT_NE(why(path).find("is a symbolic link"), std::string::npos);
    std::filesystem::remove(path);
    std::filesystem::create_directory(path);
    EXPECT_NE(why(path).find("is a directory"), std::string::npos);
    std::filesystem::remove(path);
    if (!before.empty()) write_all(path, before);
  }
  EXPECT_NO_THROW(check_own_files(spec, rendered));
}

TEST_F(FakeSlurmTest, AnErrorOfTheSchedulerIsReported) {
  write_all(folder_ / "sbatch", "#!/bin/sh\necho 'sbatch: error: invalid account' >&2\nexit 1\n");
  LaunchSpec spec = train_spec();
  spec.run_directory = spec.submission_directory = (folder_ / "run").string();
  const Detected found = detect(here_, spec);
  std::ostringstream out;
  std::ostringstream err;
  try {
    submit(*found.adapter, spec, found.adapter->render(spec, found.allocation), here_, out, err);
    FAIL();
  } catch (const Error& error) {
    EXPECT_TRUE(std::string(error.what()).ends_with("sbatch: error: invalid account")) << error.what();
  }
  EXPECT_EQ(out.str(), "");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "run/launch.json"));
}

}  // namespace
}  // namespace tutti
