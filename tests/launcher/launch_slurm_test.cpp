#include "tests/launcher/launch_helpers.h"

#include <fmt/ranges.h>

#include <set>

namespace tutti {
namespace {

TEST(LaunchSlurmTest, InsideAJobBySrun) {
  expect_golden("slurm_srun.txt", rendered_text(train_spec(), slurm_job()));
}

TEST(LaunchSlurmTest, InTheShellOfAStep) {
  // Variables of Slurm 22.05 for `salloc -N2 -n4 srun -n1 --pty bash`: counts of the step, hosts of the job.
  FakeMachine shell{.variables = {{"SLURM_JOB_ID", "7"},
                                  {"SLURM_JOB_NODELIST", "node[1-2]"},
                                  {"SLURM_JOB_CPUS_PER_NODE", "3,1"},
                                  {"SLURM_TASKS_PER_NODE", "1"},
                                  {"SLURM_NTASKS", "1"},
                                  {"SLURM_STEP_ID", "0"},
                                  {"SLURM_STEP_NUM_TASKS", "1"}},
                    .programs = {"srun"}};
  LaunchSpec spec = train_spec();
  const std::string text = rendered_text(spec, shell);
  EXPECT_NE(text.find("srun --nodes=2 --ntasks=2 --ntasks-per-node=1 "), std::string::npos) << text;
  EXPECT_NE(text.find(" --overlap "), std::string::npos) << text;
  spec.starter = "mpirun";
  EXPECT_NE(refusal(spec, shell).find("Use --starter srun"), std::string::npos) << refusal(spec, shell);
  shell.variables.erase("SLURM_STEP_ID");
  EXPECT_NE(refusal(train_spec(), shell).find("does not fit the 2 hosts"), std::string::npos);
}

TEST(LaunchSlurmTest, AfterAHostWasLost) {
  LaunchSpec spec = train_spec();
  spec.restarted = true;
  expect_golden("slurm_srun_again.txt", rendered_text(spec, slurm_job()));
  spec.starter = "mpirun";
  expect_golden("slurm_mpirun_again.txt", rendered_text(spec, slurm_job()));
}

TEST(LaunchSlurmTest, InsideAJobByMpirun) {
  LaunchSpec spec = train_spec();
  spec.starter = "mpirun";
  expect_golden("slurm_mpirun.txt", rendered_text(spec, slurm_job()));
  spec.ranks_per_node = 4;  // more than the job's tasks, not more than its cores
  expect_golden("slurm_mpirun_more.txt", rendered_text(spec, slurm_job()));
  spec.ranks_per_node = 9;
  EXPECT_NE(refusal(spec, slurm_job()).find("room for 8 on node1"), std::string::npos)
      << refusal(spec, slurm_job());
}

TEST(LaunchSlurmTest, UnevenNodes) {
  FakeMachine place = slurm_job();
  place.variables["SLURM_JOB_NODELIST"] = "node[1-3,5],gpu-07";
  place.variables["SLURM_TASKS_PER_NODE"] = "2(x3),1(x2)";
  place.variables["SLURM_JOB_CPUS_PER_NODE"] = "8(x4),4";
  place.variables["SLURM_NTASKS"] = "8";
  place.variables.erase("SLURM_NTASKS_PER_NODE");
  place.variables["SLURM_CPUS_PER_TASK"] = "4";
  expect_golden("slurm_uneven.txt", rendered_text(train_spec(), place));
  place.variables["SLURM_TASKS_PER_NODE"] = "2(x3)";
  EXPECT_NE(refusal(train_spec(), place).find("does not fit the 5 hosts"), std::string::npos);
}

TEST(LaunchSlurmTest, ExcludesHosts) {
  LaunchSpec spec = train_spec();
  spec.exclude = {"node1"};
  expect_golden("slurm_exclude.txt", rendered_text(spec, slurm_job()));
  spec.nodes = 2;
  EXPECT_NE(refusal(spec, slurm_job()).find("has 1 without those that are excluded"), std::string::npos);
  spec.exclude = {"node1", "node2"};
  EXPECT_NE(refusal(spec, slurm_job()).find("no host is left"), std::string::npos);
}

TEST(LaunchSlurmTest, AnAllocationWithoutTasksHasOneRankPerGpu) {
  FakeMachine place = slurm_job();
  for (const char* name : {"SLURM_NTASKS", "SLURM_NTASKS_PER_NODE"}) place.variables.erase(name);
  place.variables["SLURM_TASKS_PER_NODE"] = "8(x2)";
  const Detected found = detect(environment(place), train_spec());
  EXPECT_EQ(total_ranks(placed_hosts(train_spec(), found.allocation)), 4);
  for (const char* name :
       {"SLURM_GPUS_ON_NODE", "SLURM_GPUS_PER_NODE", "SLURM_JOB_GPUS", "CUDA_VISIBLE_DEVICES"}) {
    place.variables.erase(name);
  }
  const Detected without = detect(environment(place), train_spec());
  EXPECT_EQ(total_ranks(placed_hosts(train_spec(), without.allocation)), 2);
}

/// The environment of a shell of salloc: no variable of tasks, because none were requested.
FakeMachine slurm_shell(const Variables& more) {
  FakeMachine place{.variables = {{"SLURM_JOB_ID", "7"},
                                  {"SLURM_JOB_NODELIST", "node[1-2]"},
                                  {"SLURM_TASKS_PER_NODE", "1(x2)"},
                                  {"SLURM_JOB_CPUS_PER_NODE", "1(x2)"}},
                    .programs = {"srun", "sbatch", "scontrol"}};
  for (const auto& [name, value] : more) place.variables[name] = value;
  return place;
}

/// The ranks of each host, a '/', and the message about idle GPUs.
std::string ranks_and_idle(const FakeMachine& place, const LaunchSpec& spec = train_spec()) {
  const Detected found = detect(environment(place), spec);
  const std::vector<Host> hosts = placed_hosts(spec, found.allocation);
  std::string text;
  for (const Host& host : hosts) text += std::to_string(host.slots) + " ";
  return fmt::format("{}/ {}", text, fmt::join(idle_gpus(spec, hosts), "; "));
}

TEST(LaunchSlurmTest, GpusReportedOnlyByTheController) {
  // salloc --gres=gpu:2 -N2: no variable lists the GPUs.
  FakeMachine place = slurm_shell({{"SLURM_JOB_CPUS_PER_NODE", "4(x2)"}});
  EXPECT_EQ(ranks_and_idle(place), "1 1 / ") << "the controller does not respond";
  const std::string show = "scontrol show job --details 7";
  place.answers[show] =
      "JobId=7 JobName=interactive\n   NodeList=node[1-2]\n   JOB_GRES=gpu:fake:4\n"
      "     Nodes=node[1-2] CPU_IDs=0-3 Mem=512 GRES=gpu:fake:2(IDX:0-1)\n   TresPerNode=gres:gpu:2\n";
  EXPECT_EQ(ranks_and_idle(place), "2 2 / ");
  // Hosts that differ, several kinds, indices with commas.
  place.answers[show] =
      "     Nodes=node1 CPU_IDs=0-3 Mem=0 GRES=gpu:a100:2(IDX:0,3),gpu:v100:1(IDX:1),nic:4(CNT:4)\n"
      "     Nodes=node2 CPU_IDs=0-3 Mem=0 GRES=gpu(CNT:1)\n";
  EXPECT_EQ(ranks_and_idle(place), "3 1 / ");
  place.answers[show] = "     Nodes=node[1-2] CPU_IDs=0-3 Mem=0 GRES=\n";
  EXPECT_EQ(ranks_and_idle(place), "1 1 / ");
  // A variable that describes only the first host.
  place.answers[show] =
      "     Nodes=node1 CPU_IDs=0 Mem=0 GRES=gpu:2(IDX:0-1)\n     Nodes=node2 CPU_IDs=0 Mem=0 "
      "GRES=gpu:1(IDX:0)\n";
  place.variables["SLURM_GPUS"] = "3";
  place.variables["SLURM_GPUS_ON_NODE"] = "2";
  EXPECT_EQ(ranks_and_idle(place), "2 1 / ");
}

TEST(LaunchSlurmTest, GpusOfAllVariables) {
  const auto ranks = [](const Variables& more) {
    Variables all{{"SLURM_JOB_CPUS_PER_NODE", "16(x2)"}};
    for (const auto& [name, value] : more) all[name] = value;
    return ranks_and_idle(slurm_shell(all));
  };
  EXPECT_EQ(ranks({{"SLURM_GPUS_PER_NODE", "2"}}), "2 2 / ");
  EXPECT_EQ(ranks({{"SLURM_GPUS_PER_NODE", "a100:2"}}), "2 2 / ");
  EXPECT_EQ(ranks({{"SLURM_GPUS_PER_NODE", "a100:2,v100:1"}}), "3 3 / ");
  EXPECT_EQ(ranks({{"SLURM_GPUS_ON_NODE", "4"}}), "4 4 / ");
  EXPECT_EQ(ranks({{"SLURM_JOB_GPUS", "0,1,5"}, {"CUDA_VISIBLE_DEVICES", "0,1,2"}}), "3 3 / ");
  EXPECT_EQ(ranks({{"SLURM_GPUS", "8"}}), "4 4 / ");
  EXPECT_EQ(ranks({{"SLURM_GPUS", "a100:8"}}), "4 4 / ");
  EXPECT_EQ(ranks({{"SLURM_GPUS_PER_TASK", "1"}, {"SLURM_NTASKS", "3"}, {"SLURM_TASKS_PER_NODE", "2,1"}}),
            "2 1 / ");
  EXPECT_EQ(ranks({{"SLURM_GPUS_PER_NODE", ""}}), "1 1 / ");
}

TEST(LaunchSlurmTest, NoMoreRanksThanTheJobHasCpus) {
  // salloc -N2 --gpus-per-node=2: srun --ntasks-per-node=2 would request more processors than permitted.
  const FakeMachine one = slurm_shell({{"SLURM_GPUS_PER_NODE", "2"}});
  EXPECT_EQ(
      ranks_and_idle(one),
      "1 1 / 1 of 2 GPUs idle on node1, node2: 1 rank there, a GPU each. The job has 1 CPU there; ask the "
      "scheduler for at least one a GPU");
  EXPECT_NE(rendered_text(train_spec(), one).find("--ntasks=2 --ntasks-per-node=1 "), std::string::npos);
  LaunchSpec two = train_spec();
  two.ranks_per_node = 2;
  EXPECT_NE(refusal(two, one).find("room for 1 on node1"), std::string::npos) << refusal(two, one);
  EXPECT_EQ(ranks_and_idle(slurm_shell({{"SLURM_GPUS_PER_NODE", "4"}, {"SLURM_JOB_CPUS_PER_NODE", "8,2"}})),
            "4 2 / 2 of 4 GPUs idle on node2: 2 ranks there, a GPU each. The job has 2 CPUs there; ask the "
            "scheduler for "
            "at least one a GPU");
  // Requested cores per rank count too.
  const FakeMachine eight = slurm_shell(
      {{"SLURM_GPUS_PER_NODE", "4"}, {"SLURM_JOB_CPUS_PER_NODE", "8(x2)"}, {"SLURM_CPUS_PER_TASK", "4"}});
  EXPECT_EQ(ranks_and_idle(eight), "4 4 / ") << "without requested tasks, ranks share the cores";
  LaunchSpec wide = train_spec();
  wide.cores_per_rank = 4;
  wide.ranks_per_node = 3;
  EXPECT_NE(refusal(wide, eight).find("--cores-per-rank 4 for 3 ranks: the job has 8 cores on node1"),
            std::string::npos)
      << refusal(wide, eight);
  wide.cores_per_rank = 0;
  wide.ranks_per_node = 4;
  EXPECT_NE(rendered_text(wide, eight).find("--cpus-per-task=2 "), std::string::npos)
      << rendered_text(wide, eight);
  // Requested tasks are the ranks; GPUs that remain idle are reported, unless ranks are given here.
  const FakeMachine tasks = slurm_shell({{"SLURM_GPUS_PER_NODE", "4"},
                                         {"SLURM_JOB_CPUS_PER_NODE", "8(x2)"},
                                         {"SLURM_NTASKS", "2"},
                                         {"SLURM_NTASKS_PER_NODE", "1"}});
  EXPECT_EQ(ranks_and_idle(tasks),
            "1 1 / 3 of 4 GPUs idle on node1, node2: 1 rank there, a GPU each. --ranks-per-node 4 uses all "
            "of them");
  LaunchSpec meant = train_spec();
  meant.ranks_per_node = 1;
  EXPECT_EQ(ranks_and_idle(tasks, meant), "1 1 / ");
}

TEST(LaunchSlurmTest, IsDetectedByItsCommands) {
  const auto name = [](const FakeMachine& place) {
    return detect(environment(place), train_spec()).adapter->name;
  };
  EXPECT_EQ(name({.programs = {"sbatch", "srun"}}), "local");
  EXPECT_EQ(name({.variables = {{"SLURM_CONF", "/opt/slurm/etc/slurm.conf"}}, .programs = {"sbatch"}}),
            "slurm");
  EXPECT_EQ(name({.programs = {"sbatch"}, .files = {{"/run/slurm/conf/slurm.conf", ""}}}), "slurm");
  EXPECT_EQ(name({.programs = {"sbatch"}, .files = {{"/etc/slurm-llnl/slurm.conf", ""}}}), "slurm");
  const std::map<std::string, std::string> answers{{"sinfo --noheader --format=%R", "main\n"}};
  EXPECT_EQ(name({.programs = {"sbatch"}, .answers = answers}), "slurm")
      << "another directory of the configuration, or none";
  EXPECT_EQ(name({.answers = answers}), "local") << "there is no sbatch";
}

TEST(LaunchSlurmTest, AScriptOnALoginNode) {
  LaunchSpec spec = train_spec();
  spec.nodes = 4;
  spec.gpus_per_node = 8;
  spec.cores_per_rank = 12;
  spec.time_limit_s = 2 * 3600;
  spec.grace_s = 120;
  spec.requeue = true;
  spec.restarts = 3;
  spec.name = "gpt";
  spec.account = "proj-7";
  spec.partition = "gpu";
  spec.qos = "long";
  spec.after = {"100", "101"};
  spec.after_ok = {"102_3"};
  spec.exclude = {"bad1", "bad2"};
  spec.directives = {"--constraint=a100"};
  spec.variables = {"WANDB_MODE"};
  spec.forwarded = {"LD_LIBRARY_PATH", "PATH", "WANDB_MODE"};
  expect_golden("slurm_login.txt", rendered_text(spec, slurm_login()));
}

TEST(LaunchSlurmTest, ASweepIsAnArray) {
  LaunchSpec spec = train_spec();
  spec.sweep = {parse_sweep_axis("optimizer.learning_rate=0.001,0.003"),
                parse_sweep_axis("model.layers=2,4")};
  spec.sweep_limit = 2;
  expect_golden("slurm_sweep.txt", rendered_text(spec, slurm_login()));
  EXPECT_EQ(spec.sweep_size(), 4);
  std::set<std::string> seen;
  for (int64_t i = 0; i < 4; ++i) {
    const LaunchSpec one = combination(spec, i);
    EXPECT_EQ(one.run_directory, "/home/ada/gpt/runs/a/00" + std::to_string(i));
    EXPECT_EQ(one.command.back(), "run.dir=" + one.run_directory);
    seen.insert(one.command[3] + " " + one.command[5]);
  }
  EXPECT_EQ(seen.size(), 4U);
  EXPECT_EQ(combination(spec, 2).command[5], "model.layers=4");
  EXPECT_THROW((void)combination(spec, 4), Error);
  for (const char* bad : {"", "x", "=1", "x=", "x=1,,2", "x=1,"})
    EXPECT_THROW((void)parse_sweep_axis(bad), Error);
}

TEST(LaunchSlurmTest, HostileStringsAreQuotedOrRefused) {
  LaunchSpec spec = train_spec();
  spec.command = {"train", "it's $(id) \"x\".yaml", "--set", "a=`id`;\\"};
  spec.working_directory = "/home/ada's/$(id)/a b";
  expect_golden("slurm_hostile.txt", rendered_text(spec, slurm_login()));

  const auto refused = [](auto change) {
    LaunchSpec changed = train_spec();
    change(changed);
    EXPECT_NE(refusal(changed, slurm_login()), "");
  };
  for (const std::string& bad : {std::string("a b"), std::string("x\n#SBATCH --uid=0"), std::string("$(id)"),
                                 std::string("a'b"), std::string("--x"), std::string("a;id")}) {
    refused([&](LaunchSpec& s) { s.account = bad; });
    refused([&](LaunchSpec& s) { s.partition = bad; });
    refused([&](LaunchSpec& s) { s.qos = bad; });
    refused([&](LaunchSpec& s) { s.name = bad; });
    refused([&](LaunchSpec& s) { s.mpi = bad; });
    refused([&](LaunchSpec& s) { s.after = {bad}; });
    refused([&](LaunchSpec& s) { s.after_ok = {bad}; });
    refused([&](LaunchSpec& s) { s.exclude = {bad}; });
    refused([&](LaunchSpec& s) { s.variables = {bad}; });
    refused([&](LaunchSpec& s) { s.interface = bad; });
  }
  refused([](LaunchSpec& s) { s.command = {"train", "x\n#SBATCH --uid=0"}; });
  refused([](LaunchSpec& s) { s.working_directory = "/home/a\nb"; });
  refused([](LaunchSpec& s) { s.directives = {"--x\n#SBATCH --uid=0"}; });
  refused([](LaunchSpec& s) { s.directives = {"rm"}; });
  refused([](LaunchSpec& s) { s.variables = {"A=secret"}; });
  for (const char* bad : {"\"", "'", "%", "\\", "#", "$", "`", "*", "\n"}) {
    refused([&](LaunchSpec& s) { s.run_directory = std::string("/home/ada/") + bad; });
  }
}

TEST(LaunchSlurmTest, AnIncompatibleMpiIsRefusedBeforeSubmission) {
  LaunchSpec spec = train_spec();
  spec.mpi = "pmi2";
  for (const FakeMachine& place : {slurm_job(), slurm_login()}) {
    EXPECT_NE(refusal(spec, place).find("Use --mpi=pmix"), std::string::npos) << refusal(spec, place);
  }
  spec.library = parse_mpi_library("MPICH Version:      4.0.2");
  expect_golden("slurm_mpich.txt", rendered_text(spec, slurm_job()));
}

TEST(LaunchSlurmTest, SettingsForTheSupervisor) {
  const SchedulerSettings settings = adapter_named("slurm").parse_settings(
      "Configuration data as of 2026-11-29T18:49:00\n"
      "KillWait                = 30 sec\n"
      "SlurmctldHost[0]        = head(10.77.0.254)\n"
      "SlurmctldHost[1]        = spare\n"
      "SlurmctldHost[2]        = -x;y\n"
      "SlurmctldAddr           = (null)\n");
  EXPECT_EQ(settings.kill_wait_s, 30);
  EXPECT_EQ(settings.kill_wait_name, "KillWait");
  EXPECT_EQ(settings.controllers, (std::vector<std::string>{"10.77.0.254", "spare"}));
  EXPECT_TRUE(adapter_named("slurm")
                  .parse_settings("slurm_load_ctl_conf error: Unable to contact\n")
                  .controllers.empty());
  const ShrinkCommand shrink = adapter_named("slurm").shrink("4711", {"node1", "node3"});
  EXPECT_EQ(shrink.unset, std::vector<std::string>{"SLURM_JOBID"});
  EXPECT_EQ(shrink.argv,
            (std::vector<std::string>{"scontrol", "update", "JobId=4711", "NodeList=node1,node3"}));
}

TEST(LaunchSlurmTest, SrunGetsTheMpiTypeOfTheLibrary) {
  const auto verify = [](const std::string& mpi, std::string_view printed) {
    LaunchSpec spec = train_spec();
    spec.mpi = mpi;
    const Detected found = detect(environment(slurm_job()), spec);
    const ToolCheck check = found.adapter->render(spec, found.allocation).check;
    EXPECT_EQ(check.argv, (std::vector<std::string>{"srun", "--mpi=list"}));
    check.verify(spec, printed);
  };
  const std::string_view list =
      "MPI plugin types are...\n\tnone\n\tpmix\nspecific pmix plugin versions: pmix_v4\n";
  verify("", list);
  verify("pmix_v4", list);
  EXPECT_THROW(verify("pmix_v3", list), Error);
  EXPECT_THROW(verify("", "MPI plugin types are...\n\tnone\n\tpmi2\n"), Error);
  LaunchSpec spec = train_spec();
  spec.starter = "mpirun";
  const Detected found = detect(environment(slurm_job()), spec);
  EXPECT_EQ(found.adapter->render(spec, found.allocation).check.verify, nullptr);
}

}  // namespace
}  // namespace tutti
