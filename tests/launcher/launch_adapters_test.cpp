#include "tests/launcher/launch_helpers.h"

#include <optional>
#include <set>

namespace tutti {
namespace {

PretendedPlace laptop() {
  return {.programs = {"mpirun"}};
}

PretendedPlace slurm_login() {
  return {.programs = {"mpirun", "sbatch", "srun"}, .files = {{"/etc/slurm/slurm.conf", ""}}};
}

/// What sbatch gives a script on two nodes of two tasks and two GPUs each (Slurm 22.05).
PretendedPlace slurm_job() {
  return {.variables = {{"SLURM_JOB_ID", "4711"},
                        {"SLURM_JOB_NODELIST", "node[1-2]"},
                        {"SLURM_JOB_NUM_NODES", "2"},
                        {"SLURM_NTASKS", "4"},
                        {"SLURM_NTASKS_PER_NODE", "2"},
                        {"SLURM_TASKS_PER_NODE", "2(x2)"},
                        {"SLURM_JOB_CPUS_PER_NODE", "8(x2)"},
                        {"SLURM_GPUS_ON_NODE", "2"},
                        {"SLURM_GPUS_PER_NODE", "2"},
                        {"SLURM_JOB_GPUS", "0,1"},
                        {"CUDA_VISIBLE_DEVICES", "0,1"}},
          .programs = {"srun", "sbatch", "mpirun"}};
}

TEST(LaunchLocalTest, OneRankNeedsNoMpirun) {
  expect_golden("local_one.txt", rendered_text(train_spec(), laptop()));
}

TEST(LaunchLocalTest, RanksByMpirun) {
  LaunchSpec spec = train_spec();
  spec.ranks_per_node = 4;
  expect_golden("local_four.txt", rendered_text(spec, laptop()));
  spec.ranks_per_node = 16;  // the laptop has 8 cores
  expect_golden("local_oversubscribed.txt", rendered_text(spec, laptop()));
}

TEST(LaunchLocalTest, ARankForEachVisibleGpu) {
  const auto ranks = [](int64_t installed, std::optional<std::string> visible) {
    PretendedPlace place = laptop();
    place.gpus = installed;
    if (visible) place.variables["CUDA_VISIBLE_DEVICES"] = *visible;
    const Detected found = detect(surroundings(place), train_spec());
    return total_ranks(placed_hosts(train_spec(), found.allocation));
  };
  EXPECT_EQ(ranks(4, std::nullopt), 4);
  EXPECT_EQ(ranks(4, "2,0"), 2);
  EXPECT_EQ(ranks(4, "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"), 1);
  EXPECT_EQ(ranks(1, "MIG-5c89852c-d268-c3f3-1b07-005d5ae1dc3f,MIG-5c89852c-d268-c3f3-1b07-005d5ae1dc40"), 2);
  EXPECT_EQ(ranks(4, "-1"), 1);
  EXPECT_EQ(ranks(4, ""), 1);
  LaunchSpec spec = train_spec();
  spec.gpus_per_node = 4;
  PretendedPlace two = laptop();
  two.gpus = 2;
  EXPECT_NE(refusal(spec, two).find("--gpus-per-node 4: laptop shows 2"), std::string::npos)
      << refusal(spec, two);
}

TEST(LaunchLocalTest, SeveralNodesNeedAScheduler) {
  LaunchSpec spec = train_spec();
  spec.nodes = 2;
  EXPECT_NE(refusal(spec, laptop()).find("--host-file"), std::string::npos) << refusal(spec, laptop());
}

TEST(LaunchLocalTest, MpichIsCalledInItsOwnWay) {
  LaunchSpec spec = train_spec();
  spec.library = parse_mpi_library("MPICH Version:      4.0.2");
  spec.ranks_per_node = 2;
  expect_golden("local_mpich.txt", rendered_text(spec, laptop()));
}

TEST(LaunchHostFileTest, MachinesOfAFile) {
  PretendedPlace place = laptop();
  place.variables["TUTTI_HOST_FILE"] = "hosts";
  place.files["hosts"] = "# our machines\nnode1 slots=2\nnode2 slots=2  # the old one\n\ngpu-07 slots=1\n";
  expect_golden("hostfile_uneven.txt", rendered_text(train_spec(), place));
  LaunchSpec spec = train_spec();
  spec.ranks_per_node = 2;
  spec.exclude = {"node2"};
  spec.interface = "10.77.0.0/24";
  expect_golden("hostfile_even.txt", rendered_text(spec, place));
  spec.library = parse_mpi_library("MPICH Version:      4.0.2");
  expect_golden("hostfile_mpich.txt", rendered_text(spec, place));
  spec.library = parse_mpi_library("Open MPI v5.0.3");
  expect_golden("hostfile_openmpi5.txt", rendered_text(spec, place));

  // As editors of other systems save them, and as Open MPI takes them too.
  place.files["hosts"] = "node1 slots = 2\r\nnode2\tslots =3 max_slots=4\r\n\r\nnode1 slots= 1\r\n";
  const Detected found = detect(surroundings(place), train_spec());
  ASSERT_EQ(found.allocation.hosts.size(), 2U);
  EXPECT_EQ(found.allocation.hosts[0].slots, 3);
  EXPECT_EQ(found.allocation.hosts[1].slots, 3);

  for (const char* bad :
       {"", "# nothing\n", "node1 slots =\n", "fe80::1 slots=2\n", "-oProxyCommand=id slots=2\n",
        "node1 slots=x\n", "node1;id\n", "node1 slots=0\n", "node1 slots=-2\n", "$(id) slots=1\n"}) {
    place.files["hosts"] = bad;
    EXPECT_NE(refusal(train_spec(), place), "") << bad;
  }
}

TEST(LaunchHostFileTest, ThePodOfAKubernetesLauncher) {
  PretendedPlace pod{.variables = {{"K_MPI_JOB_ROLE", "launcher"},
                                   {"OMPI_MCA_orte_default_hostfile", "/etc/mpi/hostfile"},
                                   {"OMPI_MCA_orte_keep_fqdn_hostnames", "true"},
                                   {"KUBERNETES_SERVICE_HOST", "10.96.0.1"}},
                     .programs = {"mpirun"},
                     .files = {{"/etc/mpi/hostfile",
                                "gpt-worker-0.gpt.default.svc slots=8\n"
                                "gpt-worker-1.gpt.default.svc slots=8\n"}}};
  expect_golden("kubernetes_pod.txt", rendered_text(train_spec(), pod));
}

TEST(LaunchSlurmTest, InsideAJobBySrun) {
  expect_golden("slurm_srun.txt", rendered_text(train_spec(), slurm_job()));
}

TEST(LaunchSlurmTest, InTheShellOfAStep) {
  // As Slurm 22.05 sets them for `salloc -N2 -n4 srun -n1 --pty bash`: counts of the step, hosts of the job.
  PretendedPlace shell{.variables = {{"SLURM_JOB_ID", "7"},
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
  PretendedPlace place = slurm_job();
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

TEST(LaunchSlurmTest, LeavesHostsOut) {
  LaunchSpec spec = train_spec();
  spec.exclude = {"node1"};
  expect_golden("slurm_exclude.txt", rendered_text(spec, slurm_job()));
  spec.nodes = 2;
  EXPECT_NE(refusal(spec, slurm_job()).find("has 1 without those that are excluded"), std::string::npos);
  spec.exclude = {"node1", "node2"};
  EXPECT_NE(refusal(spec, slurm_job()).find("no host is left"), std::string::npos);
}

TEST(LaunchSlurmTest, AnAllocationWithoutTasksHasARankAGpu) {
  PretendedPlace place = slurm_job();
  for (const char* name : {"SLURM_NTASKS", "SLURM_NTASKS_PER_NODE"}) place.variables.erase(name);
  place.variables["SLURM_TASKS_PER_NODE"] = "8(x2)";
  const Detected found = detect(surroundings(place), train_spec());
  EXPECT_EQ(total_ranks(placed_hosts(train_spec(), found.allocation)), 4);
  for (const char* name :
       {"SLURM_GPUS_ON_NODE", "SLURM_GPUS_PER_NODE", "SLURM_JOB_GPUS", "CUDA_VISIBLE_DEVICES"}) {
    place.variables.erase(name);
  }
  const Detected without = detect(surroundings(place), train_spec());
  EXPECT_EQ(total_ranks(placed_hosts(train_spec(), without.allocation)), 2);
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
    const LaunchSpec one = swept(spec, i);
    EXPECT_EQ(one.run_directory, "/home/ada/gpt/runs/a/00" + std::to_string(i));
    EXPECT_EQ(one.command.back(), "run.dir=" + one.run_directory);
    seen.insert(one.command[3] + " " + one.command[5]);
  }
  EXPECT_EQ(seen.size(), 4U);
  EXPECT_EQ(swept(spec, 2).command[5], "model.layers=4");
  EXPECT_THROW((void)swept(spec, 4), Error);
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

TEST(LaunchSlurmTest, AnMpiThatDoesNotFitIsRefusedBeforeTheQueue) {
  LaunchSpec spec = train_spec();
  spec.mpi = "pmi2";
  for (const PretendedPlace& place : {slurm_job(), slurm_login()}) {
    EXPECT_NE(refusal(spec, place).find("Use --mpi=pmix"), std::string::npos) << refusal(spec, place);
  }
  spec.library = parse_mpi_library("MPICH Version:      4.0.2");
  expect_golden("slurm_mpich.txt", rendered_text(spec, slurm_job()));
}

/// Four nodes with everything that most schedulers have a word for.
LaunchSpec full_spec() {
  LaunchSpec spec = train_spec();
  spec.nodes = 4;
  spec.gpus_per_node = 8;
  spec.cores_per_rank = 12;
  spec.time_limit_s = 26 * 3600;
  spec.grace_s = 120;
  spec.requeue = true;
  spec.restarts = 3;
  spec.name = "gpt";
  spec.account = "proj-7";
  spec.partition = "gpu";
  spec.after = {"100"};
  spec.after_ok = {"102"};
  return spec;
}

/// What PBS Pro gives a script of two chunks with mpiprocs=2.
PretendedPlace pbs_job() {
  return {.variables = {{"PBS_JOBID", "1234.pbs-server"},
                        {"PBS_NODEFILE", "/var/spool/pbs/aux/1234.pbs-server"},
                        {"PBS_ENVIRONMENT", "PBS_BATCH"},
                        {"PBS_O_WORKDIR", "/home/ada/gpt"},
                        {"NCPUS", "24"},
                        {"CUDA_VISIBLE_DEVICES", "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,GPU-1d"}},
          .programs = {"qsub", "mpirun"},
          .files = {{"/etc/pbs.conf", ""},
                    {"/var/spool/pbs/aux/1234.pbs-server",
                     "r1i0n1.cluster\nr1i0n1.cluster\nr1i0n2.cluster\nr1i0n2.cluster\n"}}};
}

TEST(LaunchPbsTest, InsideAJobAndOutside) {
  expect_golden("pbs_job.txt", rendered_text(train_spec(), pbs_job()));
  const PretendedPlace login{.programs = {"qsub"}, .files = {{"/etc/pbs.conf", ""}}};
  expect_golden("pbs_login.txt", rendered_text(full_spec(), login));
  LaunchSpec spec = train_spec();
  spec.sweep = {parse_sweep_axis("train.batch=8,16,32")};
  spec.sweep_limit = 2;
  spec.run_directory = "/home/ada/gpt/runs/it's $(id)";
  EXPECT_NE(refusal(spec, login).find("Choose another run.dir"), std::string::npos);
  spec.run_directory = "/home/ada/gpt/runs/a";
  expect_golden("pbs_sweep.txt", rendered_text(spec, login));
  PretendedPlace task = pbs_job();
  task.variables["PBS_ARRAY_INDEX"] = "2";
  EXPECT_EQ(detect(surroundings(task), spec).allocation.array_index, 2);
  spec.exclude = {"r1i0n1"};
  EXPECT_NE(refusal(spec, login).find("--exclude"), std::string::npos);
  PretendedPlace gone = pbs_job();
  gone.files.erase("/var/spool/pbs/aux/1234.pbs-server");
  EXPECT_NE(refusal(train_spec(), gone).find("no such file"), std::string::npos);
}

TEST(LaunchTorqueTest, InsideAJobAndOutside) {
  const PretendedPlace job{
      .variables = {{"PBS_JOBID", "88.torque"},
                    {"PBS_NODEFILE", "/var/spool/torque/aux/88.torque"},
                    {"PBS_NUM_NODES", "2"},
                    {"PBS_NUM_PPN", "4"},
                    {"PBS_ARRAYID", "3"}},
      .programs = {"qsub", "mpirun"},
      .files = {{"/var/spool/torque/aux/88.torque", "n2\nn2\nn2\nn2\nn1\nn1\nn1\nn1\n"}}};
  expect_golden("torque_job.txt", rendered_text(train_spec(), job));
  EXPECT_EQ(detect(surroundings(job), train_spec()).allocation.array_index, 3);
  const PretendedPlace login{.programs = {"qsub"}, .files = {{"/var/spool/torque/server_name", "torque"}}};
  expect_golden("torque_login.txt", rendered_text(full_spec(), login));
}

TEST(LaunchLsfTest, InsideAJobAndOutside) {
  PretendedPlace job{.variables = {{"LSB_JOBID", "5678"},
                                   {"LSB_MCPU_HOSTS", "hostA 2 hostB 2"},
                                   {"LSB_HOSTS", "hostA hostA hostB hostB"},
                                   {"LSB_JOBINDEX", "0"}},
                     .programs = {"bsub", "mpirun"}};
  expect_golden("lsf_job.txt", rendered_text(train_spec(), job));
  EXPECT_EQ(detect(surroundings(job), train_spec()).allocation.array_index, -1);
  job.variables["LSB_JOBINDEX"] = "1";
  EXPECT_EQ(detect(surroundings(job), train_spec()).allocation.array_index, 0);
  for (const char* bad : {"", "hostA", "hostA x", "-x 2", "hostA 0", "hostA 2 hostB"}) {
    job.variables["LSB_MCPU_HOSTS"] = bad;
    EXPECT_NE(refusal(train_spec(), job), "") << bad;
  }
  const PretendedPlace login{.programs = {"bsub"}};
  LaunchSpec spec = full_spec();
  spec.exclude = {"bad1"};
  expect_golden("lsf_login.txt", rendered_text(spec, login));
  LaunchSpec sweep = train_spec();
  sweep.sweep = {parse_sweep_axis("train.batch=8,16")};
  expect_golden("lsf_sweep.txt", rendered_text(sweep, login));
}

TEST(LaunchFluxTest, InsideAJobAndOutside) {
  const PretendedPlace job{
      .variables = {{"FLUX_URI", "local:///run/flux/local"}, {"FLUX_ENCLOSING_ID", "f2Wk7dCu"}},
      .programs = {"flux"}};
  LaunchSpec spec = train_spec();
  spec.nodes = 2;
  spec.ranks_per_node = 4;
  expect_golden("flux_job.txt", rendered_text(spec, job));
  spec.library = parse_mpi_library("Open MPI v5.0.3");
  spec.gpus_per_node = 4;
  spec.cores_per_rank = 6;
  expect_golden("flux_job_openmpi5.txt", rendered_text(spec, job));
  const PretendedPlace login{.variables = {{"FLUX_URI", "local:///run/flux/local"}}, .programs = {"flux"}};
  expect_golden("flux_login.txt", rendered_text(full_spec(), login));
  spec.sweep = {parse_sweep_axis("train.batch=8,16")};
  EXPECT_NE(refusal(spec, login).find("no job arrays"), std::string::npos);
}

TEST(LaunchKubernetesTest, AnMpiJob) {
  LaunchSpec spec = train_spec();
  spec.scheduler = "kubernetes";
  spec.nodes = 2;
  spec.gpus_per_node = 8;
  spec.cores_per_rank = 4;
  spec.time_limit_s = 7200;
  spec.restarts = 2;
  spec.name = "gpt-small";
  spec.kube_namespace = "ml";
  spec.volume = "ada-home";
  EXPECT_NE(refusal(spec, laptop()).find("--image"), std::string::npos);
  spec.image = "registry.example.org/ada/tutti:1.2";
  expect_golden("kubernetes.txt", rendered_text(spec, laptop()));
  spec.command = {"train", "a: \"b\"\n- $(id)", "--set", "x={y}"};
  expect_golden("kubernetes_hostile.txt", rendered_text(spec, laptop()));
  for (const char* name : {"Gpt", "gpt.x", "gpt-", "a_b", "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopq"}) {
    spec.name = name;
    EXPECT_NE(refusal(spec, laptop()), "") << name;
  }
}

TEST(LaunchDetectTest, WhoIsInCharge) {
  const auto name = [](const PretendedPlace& place) {
    return detect(surroundings(place), train_spec()).adapter->name;
  };
  EXPECT_EQ(name(laptop()), "local");
  EXPECT_EQ(name(slurm_login()), "slurm");
  EXPECT_EQ(name(slurm_job()), "slurm");
  EXPECT_EQ(name({.programs = {"qsub"}, .files = {{"/etc/pbs.conf", ""}}}), "pbs");
  EXPECT_EQ(name({.variables = {{"SGE_ROOT", "/opt/sge"}}, .programs = {"qsub"}}), "local");
  EXPECT_EQ(name({.programs = {"bsub"}}), "lsf");
  EXPECT_EQ(name({.programs = {"flux"}}), "local");
  EXPECT_EQ(name({.programs = {"kubectl"}}), "local");
  // Slurm's package is installed, but there is no cluster.
  EXPECT_EQ(name({.programs = {"sbatch", "srun"}}), "local");
  LaunchSpec spec = train_spec();
  spec.scheduler = "slrum";
  EXPECT_NE(refusal(spec, laptop()).find("did you mean 'slurm'?"), std::string::npos)
      << refusal(spec, laptop());
  spec.scheduler = "local";
  EXPECT_EQ(detect(surroundings(slurm_login()), spec).adapter->name, "local");
}

TEST(LaunchSpecTest, ImpossibleSizesAreRefused) {
  const auto refused = [](auto change) {
    LaunchSpec spec = train_spec();
    change(spec);
    const std::string message = refusal(spec, laptop());
    EXPECT_NE(message, "");
    return message;
  };
  refused([](LaunchSpec& s) { s.nodes = -1; });
  refused([](LaunchSpec& s) { s.ranks_per_node = 5000; });
  refused([](LaunchSpec& s) { s.restarts = -1; });
  refused([](LaunchSpec& s) { s.command.clear(); });
  refused([](LaunchSpec& s) { s.time_limit_s = 60, s.grace_s = 60; });
  EXPECT_NE(refused([](LaunchSpec& s) { s.ranks_per_node = 4, s.gpus_per_node = 2; }).find("share a GPU"),
            std::string::npos);
  refused([](LaunchSpec& s) { s.command = {"info"}, s.sweep = {parse_sweep_axis("a=1")}; });
  EXPECT_NE(refused([](LaunchSpec& s) {
              s.sweep = {parse_sweep_axis("a=1,2"), parse_sweep_axis("b=3"), parse_sweep_axis("a=4")};
            }).find("--sweep a: comes twice"),
            std::string::npos);
  refused([](LaunchSpec& s) { s.sweep = {parse_sweep_axis("run.dir=a,b")}; });
  // So many that their number has no place in 64 bits.
  for (const int axes : {14, 63, 64, 65}) {
    refused([axes](LaunchSpec& s) {
      for (int i = 0; i < axes; ++i) s.sweep.push_back({.key = fmt::format("k{}", i), .values = {"1", "2"}});
    });
  }
}

TEST(LaunchEnvironmentTest, SecretsStayWhereTheyAre) {
  const Variables variables{
      {"PATH", "/bin"},        {"AWS_SECRET_ACCESS_KEY", "x"}, {"OMPI_COMM_WORLD_RANK", "0"},
      {"PMIX_RANK", "0"},      {"OMPI_MCA_btl", "self"},       {"NCCL_DEBUG", "INFO"},
      {"GITHUB_TOKEN", "x"},   {"SLURM_JOB_ID", "1"},          {"SLURM_CPU_BIND", "mask"},
      {"BASH_FUNC_x%%", "()"}, {"CUDA_VISIBLE_DEVICES", "0"},  {"WANTED", "1"}};
  EXPECT_EQ(forwarded_names(variables), (std::vector<std::string>{"NCCL_DEBUG", "OMPI_MCA_btl", "PATH"}));
  std::vector<std::string> names;
  for (const auto& [name, value] : launch_environment(variables, {"WANTED"})) names.push_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{"CUDA_VISIBLE_DEVICES", "NCCL_DEBUG", "OMPI_MCA_btl", "PATH",
                                             "SLURM_JOB_ID", "WANTED"}));
  EXPECT_TRUE(launch_environment({}, {}).contains("PATH"));
  EXPECT_EQ(without_secrets({"PATH", "TUTTI_METRICS_TOKEN", "NCCL_DEBUG", "MY_PASSWORD"}, {"MY_PASSWORD"}),
            (std::vector<std::string>{"PATH", "NCCL_DEBUG", "MY_PASSWORD"}));
}

}  // namespace
}  // namespace tutti
