#include "tests/launcher/launch_helpers.h"

#include <string>
#include <vector>

namespace tutti {
namespace {

using Texts = std::vector<std::string>;

const std::string kSign = "\xC6\x92";  // U+0192 of Flux

const JobIds& ids(std::string_view scheduler) {
  return adapter_named(scheduler).job_ids;
}

/// Ids that are not valid for any scheduler: options, and special characters of a shell.
const Texts kHostile{"",
                     "-1",
                     "--all",
                     "[5]",
                     "1234[",
                     "1234]",
                     "1234[[5]]",
                     "1234[a]",
                     "1234[5",
                     "a b",
                     "$(id)",
                     "1;id",
                     "a,b",
                     "'1'",
                     "1*",
                     "1234[5]\n",
                     "\xC6"
                     "2Wk",
                     kSign,
                     kSign + "-x",
                     "2" + kSign,
                     "1 2",
                     "1\n2",
                     "`id`"};

TEST(JobIdTest, FormsOfEachScheduler) {
  struct Case {
    std::string scheduler;
    Texts good, bad;
  };
  const std::vector<Case> cases{
      {"slurm",
       {"1234", "1234_7", "1234_[1-3,5]", "1234+1", "4711.2"},
       {"f2Wk7dCu", "job.123", kSign + "2Wk7dCu", "gpt", "ml/gpt"}},
      {"pbs",
       {"1234", "1234.pbs-server.example.org", "1234[].srv", "1234[5].srv", "1234[1-9:2].srv"},
       {"f2Wk7dCu", "srv.1234", kSign + "2Wk7dCu", "ml/gpt"}},
      {"torque", {"88.torque", "88[3].torque", "88-3.torque"}, {"torque.88", "ml/gpt"}},
      {"lsf", {"1234", "1234[5]", "1234[1-3]"}, {"normal", kSign + "2Wk7dCu", "ml/gpt"}},
      {"flux",
       {"f2Wk7dCu", kSign + "2Wk7dCu", "0000.0004.7ff0.0000", "0x4f2a", "1234"},
       {"ml/gpt", kSign + kSign + "2Wk7dCu"}},
      {"kubernetes",
       {"ml/gpt", "gpt", "team-a/gpt.2"},
       {"ml/--all", "-n/gpt", "ml/", "/gpt", "ml/$(id)", "ml/gpt/x", "ml/a b", kSign + "2Wk7dCu"}}};
  for (const Case& c : cases) {
    for (const std::string& text : c.good) EXPECT_TRUE(ids(c.scheduler).valid(text)) << c.scheduler << text;
    for (const std::string& text : c.bad) EXPECT_FALSE(ids(c.scheduler).valid(text)) << c.scheduler << text;
    for (const std::string& text : kHostile) {
      EXPECT_FALSE(ids(c.scheduler).valid(text)) << c.scheduler << " " << text;
    }
  }
}

TEST(JobIdTest, IdsInTheOutputOfSubmissions) {
  struct Case {
    std::string scheduler, printed, id;  // without an id: refused
  };
  const std::vector<Case> cases{{"slurm", "1234\n", "1234"},
                                {"slurm", "1234;cluster\n", "1234"},
                                {"slurm", "sbatch: quota is low\n1234\n", "1234"},
                                {"slurm", "Submitted batch job\n", ""},
                                {"pbs", "4021.pbs-server\n", "4021.pbs-server"},
                                {"pbs", "1234[].pbs-server\r\n", "1234[].pbs-server"},
                                {"pbs", "qsub: waiting\n", ""},
                                {"torque", "88.torque\n", "88.torque"},
                                {"lsf", "Job <5678> is submitted to queue <normal>.\n", "5678"},
                                {"lsf", "Job <123> is submitted to default queue <normal>.\n", "123"},
                                {"lsf", "Job <> is submitted\n", ""},
                                {"lsf", "Request aborted by esub\n", ""},
                                {"flux", "note: quota is low\nf2Wk7dCu\n", "f2Wk7dCu"},
                                {"flux", kSign + "2Wk7dCu\n", kSign + "2Wk7dCu"},
                                {"flux", "cannot submit\n", ""},
                                {"kubernetes", "ml/gpt", "ml/gpt"},
                                {"kubernetes", "ml/--all", ""},
                                {"kubernetes", "ml/gpt/x", ""}};
  for (const Case& c : cases) {
    if (c.id.empty()) {
      EXPECT_THROW((void)parse_job_id(ids(c.scheduler), c.printed), Error) << c.scheduler << c.printed;
    } else {
      EXPECT_EQ(parse_job_id(ids(c.scheduler), c.printed), c.id) << c.scheduler;
    }
  }
  for (const Adapter* adapter : adapters()) {
    for (const char* const text : {"", "\n", "-1\n", "$(id)\n"}) {
      EXPECT_THROW((void)parse_job_id(adapter->job_ids, text), Error) << adapter->name << text;
    }
  }
}

TEST(JobIdTest, SpellingsOfOneJob) {
  EXPECT_TRUE(is_same_job(ids("flux"), kSign + "2Wk", "f2Wk"));
  EXPECT_FALSE(is_same_job(ids("flux"), kSign + "2Wk", "2Wk"));
  EXPECT_TRUE(is_same_job(ids("pbs"), "1234.srv", "1234"));
  EXPECT_FALSE(is_same_job(ids("pbs"), "1234.a", "1234.b"));
  EXPECT_TRUE(is_same_job(ids("slurm"), "1234", "1234"));
  EXPECT_FALSE(is_same_job(ids("slurm"), "1234_1", "1234_2"));
}

TEST(JobIdTest, ArgumentsOfCommands) {
  EXPECT_EQ(with_job(ids("slurm"), {"scancel"}, "1234_7"), (Texts{"scancel", "1234_7"}));
  EXPECT_EQ(with_job(ids("kubernetes"), {"kubectl", "get"}, "ml/gpt"),
            (Texts{"kubectl", "get", "--namespace", "ml", "gpt"}));
  EXPECT_EQ(with_job(ids("kubernetes"), {"kubectl", "get"}, "gpt"), (Texts{"kubectl", "get", "gpt"}));
}

TEST(JobIdTest, DependenciesNameOneJobEach) {
  const auto refused = [](std::string_view scheduler, const std::string& job) {
    LaunchSpec spec;
    spec.after = {job};
    LaunchSpec ok;
    ok.after_ok = {job};
    const auto fails = [&](const LaunchSpec& of) {
      try {
        check_dependencies(ids(scheduler), of);
      } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find("is not the id of a job, such as"), std::string::npos);
        return true;
      }
      return false;
    };
    EXPECT_EQ(fails(spec), fails(ok)) << job;
    return fails(spec);
  };
  EXPECT_FALSE(refused("slurm", "1234_7"));
  EXPECT_FALSE(refused("pbs", "1234[5].srv"));
  EXPECT_FALSE(refused("flux", kSign + "2Wk7dCu"));
  for (const char* const bad : {"1234+5", "1234_[1-3,5]", "1234:5", "gpt", "--all", ""}) {
    EXPECT_TRUE(refused("slurm", bad)) << bad;
  }
  EXPECT_TRUE(refused("pbs", "1234[1-9:2].srv"));
  EXPECT_TRUE(refused("flux", "1,2"));
}

TEST(JobStateTest, MessagesOfUnknownJobs) {
  struct Case {
    std::string scheduler, message;
  };
  const std::vector<Case> unknown{
      {"slurm", "slurm_load_jobs error: Invalid job id specified"},
      {"pbs", "qstat: Unknown Job Id 1234.srv"},
      {"pbs", "qstat: 1234.srv Job has finished, use -x or -H to obtain historical job information"},
      {"torque", "qstat: Unknown Job Id Error 88.torque"},
      {"lsf", "Job <123> is not found"},
      {"lsf", "No unfinished job found"},
      {"lsf", "No matching job found"},
      {"flux", "flux-jobs: ERROR: JobID f2Wk unknown"},
      {"kubernetes", "Error from server (NotFound): mpijobs.kubeflow.org \"gpt\" not found"}};
  for (const Case& c : unknown) {
    for (const Adapter* adapter : adapters()) {
      const auto is_unknown = adapter->commands.is_unknown;
      const bool same_commands = c.scheduler == adapter->name ||
                                 (c.scheduler == "pbs" && adapter->name == "torque") ||
                                 (c.scheduler == "torque" && adapter->name == "pbs");
      EXPECT_EQ(is_unknown != nullptr && is_unknown(c.message), same_commands)
          << adapter->name << ": " << c.message;
    }
  }
  const std::vector<Case> unreachable{
      {"slurm", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"},
      {"pbs", "Connection refused\nqstat: cannot connect to server srv (errno=15010)"},
      {"torque", "qstat: cannot connect to server torque (errno=111) Connection refused"},
      {"lsf", "LSF is down. Please wait ..."},
      {"flux", "flux-jobs: ERROR: Unable to connect to Flux: ENOENT: No such file or directory"},
      {"kubernetes", "The connection to the server 10.96.0.1:6443 was refused"}};
  for (const Case& c : unreachable) {
    EXPECT_FALSE(adapter_named(c.scheduler).commands.is_unknown(c.message)) << c.message;
  }
}

TEST(JobStateTest, StepsOfRanks) {
  EXPECT_EQ(
      adapter_named("slurm").commands.parse_steps("4711.0\n4711.batch\n4711.extern\n4711_2.13\n$(id).1\n"),
      (Texts{"4711.0", "4711_2.13"}));
}

}  // namespace
}  // namespace tutti
