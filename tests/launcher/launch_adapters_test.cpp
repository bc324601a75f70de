#include "tests/launcher/launch_helpers.h"

#include <optional>
#include <set>

namespace tutti {
namespace {

TEST(LaunchLocalTest, OneRankDoesNotNeedMpirun) {
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
    FakeMachine place = laptop();
    place.gpus = installed;
    if (visible) place.variables["CUDA_VISIBLE_DEVICES"] = *visible;
    const Detected found = detect(environment(place), train_spec());
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
  FakeMachine two = laptop();
  two.gpus = 2;
  EXPECT_NE(refusal(spec, two).find("--gpus-per-node 4: laptop shows 2"), std::string::npos)
      << refusal(spec, two);
}

TEST(LaunchLocalTest, SeveralNodesNeedAScheduler) {
  LaunchSpec spec = train_spec();
  spec.nodes = 2;
  EXPECT_NE(refusal(spec, laptop()).find("--host-file"), std::string::npos) << refusal(spec, laptop());
}

TEST(LaunchLocalTest, MpichHasItsOwnOptions) {
  LaunchSpec spec = train_spec();
  spec.library = parse_mpi_library("MPICH Version:      4.0.2");
  spec.ranks_per_node = 2;
  expect_golden("local_mpich.txt", rendered_text(spec, laptop()));
}

TEST(LaunchHostFileTest, MachinesOfAFile) {
  FakeMachine place = laptop();
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

  // With line ends of other systems, and white space that Open MPI accepts too.
  place.files["hosts"] = "node1 slots = 2\r\nnode2\tslots =3 max_slots=4\r\n\r\nnode1 slots= 1\r\n";
  const Detected found = detect(environment(place), train_spec());
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
  FakeMachine pod{.variables = {{"K_MPI_JOB_ROLE", "launcher"},
                                {"OMPI_MCA_orte_default_hostfile", "/etc/mpi/hostfile"},
                                {"OMPI_MCA_orte_keep_fqdn_hostnames", "true"},
                                {"KUBERNETES_SERVICE_HOST", "10.96.0.1"}},
                  .programs = {"mpirun"},
                  .files = {{"/etc/mpi/hostfile",
                             "gpt-worker-0.gpt.default.svc slots=8\n"
                             "gpt-worker-1.gpt.default.svc slots=8\n"}}};
  expect_golden("kubernetes_pod.txt", rendered_text(train_spec(), pod));
}

/// Four nodes with all options that most schedulers support.
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

/// The environment of a script of PBS Pro with two chunks and mpiprocs=2.
FakeMachine pbs_job() {
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
  FakeMachine four = pbs_job();
  four.variables["CUDA_VISIBLE_DEVICES"] = "0,1,2,3";
  const Detected found = detect(environment(four), train_spec());
  EXPECT_EQ(idle_gpus(train_spec(), placed_hosts(train_spec(), found.allocation)),
            std::vector<std::string>{
                "2 of 4 GPUs idle on r1i0n1.cluster, r1i0n2.cluster: 2 ranks there, a GPU each. Ask "
                "the scheduler for 4 ranks a node"});
  const FakeMachine login{.programs = {"qsub"}, .files = {{"/etc/pbs.conf", ""}}};
  expect_golden("pbs_login.txt", rendered_text(full_spec(), login));
  LaunchSpec spec = train_spec();
  spec.sweep = {parse_sweep_axis("train.batch=8,16,32")};
  spec.sweep_limit = 2;
  spec.run_directory = "/home/ada/gpt/runs/it's $(id)";
  EXPECT_NE(refusal(spec, login).find("Choose another run.dir"), std::string::npos);
  spec.run_directory = "/home/ada/gpt/runs/a";
  expect_golden("pbs_sweep.txt", rendered_text(spec, login));
  FakeMachine task = pbs_job();
  task.variables["PBS_ARRAY_INDEX"] = "2";
  EXPECT_EQ(detect(environment(task), spec).allocation.array_index, 2);
  spec.exclude = {"r1i0n1"};
  EXPECT_NE(refusal(spec, login).find("--exclude"), std::string::npos);
  FakeMachine gone = pbs_job();
  gone.files.erase("/var/spool/pbs/aux/1234.pbs-server");
  EXPECT_NE(refusal(train_spec(), gone).find("no such file"), std::string::npos);
}

TEST(LaunchPbsTest, ArraysAreLegal) {
  const FakeMachine login{.programs = {"qsub"}, .files = {{"/etc/pbs.conf", ""}}};
  LaunchSpec spec = train_spec();
  spec.sweep = {parse_sweep_axis("train.batch=8")};
  for (const char* const scheduler : {"pbs", "torque", "lsf"}) {
    spec.scheduler = scheduler;
    const std::string text = rendered_text(spec, login);
    EXPECT_EQ(text.find(" 0-0"), std::string::npos) << text;
    EXPECT_EQ(text.find("[1-1]"), std::string::npos) << text;
    EXPECT_EQ(text.find("%I"), std::string::npos) << text;
    EXPECT_NE(text.find(" --sweep train.batch=8 "), std::string::npos) << text;
  }
  spec.scheduler = "pbs";
  spec.sweep = {parse_sweep_axis("train.batch=8,16")};
  EXPECT_NE(rendered_text(spec, login).find("#PBS -r y\n#PBS -J 0-1\n"), std::string::npos)
      << "PBS requires that arrays can be restarted\n"
      << rendered_text(spec, login);
  spec.requeue = true;
  EXPECT_EQ(refusal(spec, login), "");
  spec.time_limit_s = 3600;
  EXPECT_NE(refusal(spec, login).find("cannot queue one job of an array again"), std::string::npos);
}

TEST(LaunchDetectTest, PbsAndTorqueAreDistinguished) {
  const auto name = [](const FakeMachine& place) {
    return detect(environment(place), train_spec()).adapter->name;
  };
  EXPECT_EQ(name({.programs = {"qsub"}}), "pbs");
  EXPECT_EQ(name({.programs = {"qsub"}, .files = {{"/var/lib/torque/server_name", ""}}}), "torque");
  EXPECT_EQ(
      name({.programs = {"qsub"}, .answers = {{"qsub --version", "Version: 6.1.2\nCommit: 661e092\n"}}}),
      "torque");
  EXPECT_EQ(name({.programs = {"qsub"}, .answers = {{"qsub --version", "pbs_version = 20.0.1\n"}}}), "pbs");
  EXPECT_EQ(name({.variables = {{"PBS_CONF_FILE", "/opt/pbs.conf"}},
                  .programs = {"qsub"},
                  .answers = {{"qsub --version", "Version: 6.1.2\n"}}}),
            "pbs");
  EXPECT_EQ(name({.programs = {"flux"}, .answers = {{"flux getattr size", "4\n"}}}), "flux");
}

TEST(LaunchRequeueTest, UnsupportedRequeuesAreRefusedBeforeSubmission) {
  LaunchSpec spec = train_spec();
  spec.requeue = true;
  EXPECT_NE(refusal(spec, laptop()).find("--restarts N"), std::string::npos) << refusal(spec, laptop());
  FakeMachine hosts = laptop();
  hosts.variables["TUTTI_HOST_FILE"] = "hosts";
  hosts.files["hosts"] = "node1\n";
  EXPECT_NE(refusal(spec, hosts).find("--restarts N"), std::string::npos);
  spec.scheduler = "flux";
  EXPECT_NE(refusal(spec, laptop()).find("--after JOB, with --resume"), std::string::npos)
      << refusal(spec, laptop());
  for (const auto& [scheduler, line] : {std::pair{"slurm", "#SBATCH --requeue"},
                                        {"pbs", "#PBS -r y"},
                                        {"torque", "#PBS -r y"},
                                        {"lsf", "#BSUB -r -Q \"75\""}}) {
    spec.scheduler = scheduler;
    const std::string text = rendered_text(spec, laptop());
    EXPECT_NE(text.find(line), std::string::npos) << text;
    EXPECT_NE(text.find(" --requeue --batch "), std::string::npos) << text;
    spec.requeue = false;
    EXPECT_NE(rendered_text(spec, laptop()).find(" --batch "), std::string::npos)
        << "no --batch, which scripts need to resume";
    spec.requeue = true;
  }
}

TEST(LaunchTorqueTest, InsideAJobAndOutside) {
  const FakeMachine job{.variables = {{"PBS_JOBID", "88.torque"},
                                      {"PBS_NODEFILE", "/var/spool/torque/aux/88.torque"},
                                      {"PBS_NUM_NODES", "2"},
                                      {"PBS_NUM_PPN", "4"},
                                      {"PBS_ARRAYID", "3"}},
                        .programs = {"qsub", "mpirun"},
                        .files = {{"/var/spool/torque/aux/88.torque", "n2\nn2\nn2\nn2\nn1\nn1\nn1\nn1\n"}}};
  expect_golden("torque_job.txt", rendered_text(train_spec(), job));
  EXPECT_EQ(detect(environment(job), train_spec()).allocation.array_index, 3);
  const FakeMachine login{.programs = {"qsub"}, .files = {{"/var/spool/torque/server_name", "torque"}}};
  expect_golden("torque_login.txt", rendered_text(full_spec(), login));
}

TEST(LaunchLsfTest, InsideAJobAndOutside) {
  FakeMachine job{.variables = {{"LSB_JOBID", "5678"},
                                {"LSB_MCPU_HOSTS", "hostA 2 hostB 2"},
                                {"LSB_HOSTS", "hostA hostA hostB hostB"},
                                {"LSB_JOBINDEX", "0"}},
                  .programs = {"bsub", "mpirun"}};
  expect_golden("lsf_job.txt", rendered_text(train_spec(), job));
  EXPECT_EQ(detect(environment(job), train_spec()).allocation.array_index, -1);
  job.variables["LSB_JOBINDEX"] = "1";
  EXPECT_EQ(detect(environment(job), train_spec()).allocation.array_index, 0);
  for (const char* bad : {"", "hostA", "hostA x", "-x 2", "hostA 0", "hostA 2 hostB"}) {
    job.variables["LSB_MCPU_HOSTS"] = bad;
    EXPECT_NE(refusal(train_spec(), job), "") << bad;
  }
  const FakeMachine login{.programs = {"bsub"}};
  LaunchSpec spec = full_spec();
  spec.exclude = {"bad1"};
  expect_golden("lsf_login.txt", rendered_text(spec, login));
  LaunchSpec sweep = train_spec();
  sweep.sweep = {parse_sweep_axis("train.batch=8,16")};
  expect_golden("lsf_sweep.txt", rendered_text(sweep, login));
}

TEST(LaunchFluxTest, InsideAJobAndOutside) {
  const FakeMachine job{
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
  const FakeMachine login{.variables = {{"FLUX_URI", "local:///run/flux/local"}}, .programs = {"flux"}};
  LaunchSpec full = full_spec();
  full.requeue = false;
  expect_golden("flux_login.txt", rendered_text(full, login));
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
  EXPECT_NE(rendered_text(spec, laptop()).find("  launcherCreationPolicy: WaitForWorkersReady\n"),
            std::string::npos);
  // The deadline includes the pulls of images: it is later than the limit that the supervisor enforces.
  EXPECT_NE(rendered_text(spec, laptop()).find("    backoffLimit: 0\n    activeDeadlineSeconds: 9000\n"),
            std::string::npos);
  LaunchSpec again = spec;
  again.requeue = true;
  EXPECT_NE(rendered_text(again, laptop()).find("    backoffLimit: 3\n    activeDeadlineSeconds: 36000\n"),
            std::string::npos);
  EXPECT_EQ(rendered_text(again, laptop()).find("--requeue"), std::string::npos)
      << "--requeue with a host file, which has no queue";
  spec.command = {"train", "a: \"b\"\n- $(id)", "--set", "x={y}"};
  expect_golden("kubernetes_hostile.txt", rendered_text(spec, laptop()));
  const auto with = [&](auto change) {
    LaunchSpec changed = spec;
    change(changed);
    return refusal(changed, laptop());
  };
  // The longest name of the operator is NAME-launcher or NAME-worker-INDEX, a label of 63; a service is
  // called NAME.
  const std::string longest(54, 'a');
  for (const std::string& name :
       {std::string("Gpt"), std::string("gpt.x"), std::string("gpt-"), std::string("a_b"), std::string("7b"),
        std::string("-a"), longest + "a", std::string(63, 'a')}) {
    EXPECT_NE(with([&](LaunchSpec& s) { s.name = name; }).find("--name"), std::string::npos) << name;
  }
  for (const std::string& name : {std::string("a"), std::string("gpt-7b"), longest}) {
    EXPECT_EQ(with([&](LaunchSpec& s) { s.name = name; }), "") << name;
  }
  EXPECT_EQ(with([&](LaunchSpec& s) { s.name = longest, s.nodes = 10; }), "");
  EXPECT_NE(with([&](LaunchSpec& s) {
              s.name = longest, s.nodes = 11;
            }).find("at most 53 characters for 11 workers"),
            std::string::npos);
  for (const std::string& bad : {std::string("Work"), std::string("a_b"), std::string("a/b"),
                                 std::string("-a"), std::string("a."), std::string()}) {
    EXPECT_NE(with([&](LaunchSpec& s) { s.volume = bad; }).find("--volume"), std::string::npos) << bad;
  }
  EXPECT_EQ(with([](LaunchSpec& s) { s.volume = "ada.home-2"; }), "");
  EXPECT_EQ(with([](LaunchSpec& s) { s.volume = "", s.command = {"preflight"}; }), "")
      << "preflight writes no checkpoints";
  for (const char* const bad : {"ml-", "a.b", "A"}) {
    EXPECT_NE(with([&](LaunchSpec& s) { s.kube_namespace = bad; }).find("--namespace"), std::string::npos)
        << bad;
  }
  for (const char* const outside : {"/scratch/runs/a", "/home/ada/gpt2/runs", "/home/ada"}) {
    EXPECT_NE(
        with([&](LaunchSpec& s) { s.run_directory = outside; }).find("outside of the working directory"),
        std::string::npos)
        << outside;
  }
  EXPECT_NE(with([](LaunchSpec& s) { s.variables = {"WANDB_MODE"}; }).find("--env WANDB_MODE: pods"),
            std::string::npos);
}

TEST(LaunchDetectTest, SchedulersAreDetected) {
  const auto name = [](const FakeMachine& place) {
    return detect(environment(place), train_spec()).adapter->name;
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
  EXPECT_EQ(detect(environment(slurm_login()), spec).adapter->name, "local");
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
  EXPECT_EQ(refused([](LaunchSpec& s) { s.starter = "foo"; }),
            "--starter 'foo': expected auto, srun or mpirun");
  refused([](LaunchSpec& s) { s.time_limit_s = 60, s.grace_s = 60; });
  EXPECT_NE(refused([](LaunchSpec& s) { s.ranks_per_node = 4, s.gpus_per_node = 2; }).find("share a GPU"),
            std::string::npos);
  refused([](LaunchSpec& s) { s.command = {"info"}, s.sweep = {parse_sweep_axis("a=1")}; });
  EXPECT_NE(refused([](LaunchSpec& s) {
              s.sweep = {parse_sweep_axis("a=1,2"), parse_sweep_axis("b=3"), parse_sweep_axis("a=4")};
            }).find("--sweep a: is given twice"),
            std::string::npos);
  refused([](LaunchSpec& s) { s.sweep = {parse_sweep_axis("run.dir=a,b")}; });
  // So many combinations that their number exceeds 64 bits.
  for (const int axes : {14, 63, 64, 65}) {
    refused([axes](LaunchSpec& s) {
      for (int i = 0; i < axes; ++i) s.sweep.push_back({.key = fmt::format("k{}", i), .values = {"1", "2"}});
    });
  }
}

TEST(LaunchEnvironmentTest, SecretsAreNotPassedOn) {
  const Variables variables{
      {"PATH", "/bin"},        {"AWS_SECRET_ACCESS_KEY", "x"}, {"OMPI_COMM_WORLD_RANK", "0"},
      {"PMIX_RANK", "0"},      {"OMPI_MCA_btl", "self"},       {"NCCL_DEBUG", "INFO"},
      {"GITHUB_TOKEN", "x"},   {"SLURM_JOB_ID", "1"},          {"SLURM_CPU_BIND", "mask"},
      {"BASH_FUNC_x%%", "()"}, {"CUDA_VISIBLE_DEVICES", "0"},  {"WANTED", "1"}};
  EXPECT_EQ(forwarded_names(variables), (std::vector<std::string>{"NCCL_DEBUG", "OMPI_MCA_btl", "PATH"}));
  std::vector<std::string> names;
  for (const auto& [name, value] : child_environment(variables, {"WANTED"})) names.push_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{"CUDA_VISIBLE_DEVICES", "NCCL_DEBUG", "OMPI_MCA_btl", "PATH",
                                             "SLURM_JOB_ID", "WANTED"}));
  EXPECT_TRUE(child_environment({}, {}).contains("PATH"));
  EXPECT_EQ(without_secrets({"PATH", "TUTTI_METRICS_TOKEN", "NCCL_DEBUG", "MY_PASSWORD"}, {"MY_PASSWORD"}),
            (std::vector<std::string>{"PATH", "NCCL_DEBUG", "MY_PASSWORD"}));
}

TEST(LaunchHostFileTest, TimeOutOfHosts) {
  const auto wait_s = [](const Variables& variables) {
    return adapter_named("hostfile").host_wait_s(environment({.variables = variables}));
  };
  EXPECT_EQ(wait_s({}), 60);
  EXPECT_EQ(wait_s({{"K_MPI_JOB_ROLE", "launcher"}}), 600);
  for (const Adapter* adapter : adapters()) {
    EXPECT_EQ(adapter->host_wait_s != nullptr, adapter->name == "hostfile") << adapter->name;
  }
}

TEST(LaunchEnvironmentTest, VariablesOfSchedulersArePassedToTheirCommands) {
  const Variables variables{{"SLURM_CONF", "x"}, {"SBATCH_ACCOUNT", "x"},     {"PBS_SERVER", "x"},
                            {"LSB_JOBID", "1"},  {"LSF_ENVDIR", "x"},         {"EGO_CONFDIR", "x"},
                            {"FLUX_URI", "x"},   {"KUBECONFIG", "x"},         {"K_MPI_JOB_ROLE", "launcher"},
                            {"MUNGE_KEY", "x"},  {"SSH_AUTH_SOCK", "x"},      {"SLURM_MEM_BIND", "x"},
                            {"SGE_ROOT", "x"},   {"SLURM_CPU_BIND_LIST", "x"}};
  const Variables kept = child_environment(variables, {});
  for (const auto& [name, value] : variables) {
    const bool expected = name != "SGE_ROOT" && name != "SLURM_MEM_BIND" && name != "SLURM_CPU_BIND_LIST";
    EXPECT_EQ(kept.contains(name), expected) << name;
  }
}

TEST(AdaptersTest, SubmittingAdaptersCanListCancelAndQueryJobs) {
  std::set<std::string_view> names;
  for (const Adapter* adapter : adapters()) {
    EXPECT_TRUE(names.insert(adapter->name).second) << adapter->name;
    EXPECT_FALSE(adapter->summary.empty());
    EXPECT_FALSE(adapter->requeue_summary.empty());
    const JobCommands& commands = adapter->commands;
    const bool submits = !commands.cancel.empty();
    EXPECT_EQ(commands.list.empty(), !submits) << adapter->name;
    EXPECT_EQ(commands.status.empty(), !submits) << adapter->name;
    EXPECT_EQ(commands.is_unknown == nullptr, !submits) << adapter->name;
    EXPECT_EQ(commands.steps.empty(), commands.parse_steps == nullptr) << adapter->name;
    EXPECT_EQ(commands.settings.empty(), adapter->parse_settings == nullptr) << adapter->name;
  }
}

}  // namespace
}  // namespace tutti
