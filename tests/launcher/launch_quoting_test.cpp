#include "launcher/launch/adapters/slurm_host_list.h"
#include "launcher/launch/adapters/slurm_mpi.h"
#include "launcher/launch/bootstrap_check.h"
#include "launcher/launch/duration.h"
#include "launcher/launch/mpi_library.h"
#include "launcher/launch/quoting.h"
#include "launcher/launch/visible_devices.h"
#include "tests/launcher/launch_helpers.h"

#include <gtest/gtest.h>
#include <tutti/core/error.h>

#include <array>
#include <cstdio>
#include <random>

namespace tutti {
namespace {

using Texts = std::vector<std::string>;

/// The words of a line as parsed by a shell, each followed by a zero byte.
std::string shell_reads(const std::string& line) {
  // The line is passed in an environment variable, so that only the shell under test parses it.
  setenv("TUTTI_TEST_LINE", line.c_str(), 1);
  FILE* const pipe = popen(R"(eval "printf '%s\\000' $TUTTI_TEST_LINE")", "r");
  EXPECT_NE(pipe, nullptr);
  std::array<char, 4096> buffer{};
  std::string out;
  while (const size_t n = fread(buffer.data(), 1, buffer.size(), pipe)) out.append(buffer.data(), n);
  EXPECT_EQ(pclose(pipe), 0);
  return out;
}

TEST(LaunchQuotingTest, AShellReadsBackQuotedWords) {
  Texts words{
      "plain", "",  "a b", "it's", "$(touch /tmp/x)", "`id`", "a\nb", "\"",    "\\",       "~",  "~root",
      "*",     "#", "a;b", "-n",   "x=$HOME",         "!!",   "\t",   "'\\''", "\xC3\xA9", "%s", "{a,b}",
      "<(id)"};
  std::mt19937 random(std::random_device{}());
  for (int i = 0; i < 40; ++i) {
    std::string word;
    for (size_t n = random() % 20; n > 0; --n) word += static_cast<char>(1 + random() % 255);
    words.push_back(word);
  }
  std::string expected;
  for (const std::string& word : words) expected += word + '\0';
  EXPECT_EQ(shell_reads(shell_line(words)), expected);
  EXPECT_THROW((void)shell_word(std::string_view("a\0b", 3)), Error);
}

TEST(LaunchQuotingTest, LineBreaksAreRefusedInScripts) {
  for (const std::string& word : Texts{"a\n#SBATCH --uid=0", "\r", std::string(1, '\x1b'), "\x7f"}) {
    EXPECT_THROW((void)script_line(Texts{"tutti", word}, "the command"), Error);
  }
  EXPECT_EQ(script_line(Texts{"tutti", "$(id)"}, "the command"), "tutti '$(id)'");
}

TEST(LaunchQuotingTest, HostNamesAndPlainWords) {
  for (const char* good : {"node1", "gpu-07", "a.b.example.org", "n_1", "10.0.0.7"}) {
    EXPECT_TRUE(is_host_name(good)) << good;
  }
  for (const char* bad :
       {"", "-oProxyCommand=id", ".hidden", "a b", "a;b", "$(id)", "a\n", "a/b", "n\xC3\xA9"}) {
    EXPECT_FALSE(is_host_name(bad)) << bad;
  }
  EXPECT_FALSE(is_host_name(std::string(254, 'a')));
  EXPECT_TRUE(is_plain_word("proj_1@lab:gpu/a=b,c"));
  for (const char* bad : {"", "-p", "a b", "a'b", "a\"b", "a\nb", "$(id)", "a#b", "a%b", "a;b", "a&b", "*"}) {
    EXPECT_FALSE(is_plain_word(bad)) << bad;
  }
  EXPECT_TRUE(is_variable_name("LD_LIBRARY_PATH"));
  for (const char* bad : {"", "1A", "A=B", "A-B", "A B"}) EXPECT_FALSE(is_variable_name(bad)) << bad;
}

TEST(LaunchDurationTest, UnitsAndClocks) {
  EXPECT_EQ(parse_duration_s("90s"), 90);
  EXPECT_EQ(parse_duration_s("45m"), 2700);
  EXPECT_EQ(parse_duration_s("2h"), 7200);
  EXPECT_EQ(parse_duration_s("1d12h"), 129600);
  EXPECT_EQ(parse_duration_s("1h30m5s"), 5405);
  EXPECT_EQ(parse_duration_s("1:30:00"), 5400);
  EXPECT_EQ(parse_duration_s("100:00:00"), 360000);
  EXPECT_EQ(parse_duration_s("2-01:00:00"), 176400);
  for (const char* bad : {"", "2", "120", "h", "2x", "-2h", "2h2h", "5m2h", "1:30", "1:60:00", "1:00:61",
                          "0s", "2h ", "99999999999999999999s", "400d", "1-2", "1:2:3:4", "0:00:00", "2 h"}) {
    EXPECT_THROW((void)parse_duration_s(bad), Error) << bad;
  }
  EXPECT_EQ(clock_text(90000), "25:00:00");
  EXPECT_EQ(clock_text_with_days(90000), "1-01:00:00");
  EXPECT_EQ(clock_text_with_days(59), "00:00:59");
}

TEST(LaunchHostListTest, CompressedListsOfSlurm) {
  EXPECT_EQ(expand_host_list("node1"), Texts{"node1"});
  EXPECT_EQ(expand_host_list("node[1-3,5],gpu-07"), (Texts{"node1", "node2", "node3", "node5", "gpu-07"}));
  EXPECT_EQ(expand_host_list("n[008-011]"), (Texts{"n008", "n009", "n010", "n011"}));
  EXPECT_EQ(expand_host_list("r[1-2]n[1,3]-ib"), (Texts{"r1n1-ib", "r1n3-ib", "r2n1-ib", "r2n3-ib"}));
  for (const char* bad : {"", "node[1-3", "node]1[", "node[3-1]", "node[a]", "node[]", "node[1-]", "a,,b",
                          "a b", "-x", "n[0-99999999]", "n[1--2]", "$(id)", "n[1-2]n[0-90000]"}) {
    EXPECT_THROW((void)expand_host_list(bad), Error) << bad;
  }
  EXPECT_EQ(expand_counts("2(x3),1"), (std::vector<int64_t>{2, 2, 2, 1}));
  EXPECT_EQ(expand_counts("8"), std::vector<int64_t>{8});
  for (const char* bad : {"", "2(x", "2(x)", "(x2)", "-1", "2(x999999999)", "2x3", "2(x3)1"}) {
    EXPECT_THROW((void)expand_counts(bad), Error) << bad;
  }
}

TEST(LaunchDevicesTest, AllFormsOfTheVariable) {
  const auto ids = [](std::string_view text) { return parse_visible_devices(text).ids; };
  EXPECT_TRUE(parse_visible_devices(std::nullopt).all);
  EXPECT_EQ(visible_count(parse_visible_devices(std::nullopt), 4), 4);
  EXPECT_EQ(ids("0,1"), (Texts{"0", "1"}));
  EXPECT_EQ(ids("3, 1"), (Texts{"3", "1"}));
  EXPECT_EQ(ids("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,GPU-1d"),
            (Texts{"GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "GPU-1d"}));
  EXPECT_EQ(ids("MIG-5c89852c-d268-c3f3-1b07-005d5ae1dc3f").size(), 1U);
  EXPECT_EQ(ids("MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/1/0").size(), 1U);
  EXPECT_TRUE(parse_visible_devices("MIG-5c89852c-d268-c3f3-1b07-005d5ae1dc3f").has_instances());
  EXPECT_FALSE(parse_visible_devices("0,1").has_instances());
  for (const char* none :
       {"", "-1", "NoDevFiles", "none", "void", " ", "x", "MIG-GPU-ab/1", "GPU-", "GPU-xyz"}) {
    EXPECT_EQ(visible_count(parse_visible_devices(none), 8), 0) << none;
  }
  EXPECT_EQ(ids("0,1,-1,2"), (Texts{"0", "1"}));
  EXPECT_EQ(ids("2,"), Texts{"2"});
  EXPECT_THROW((void)ids("0,1,0"), Error);
}

TEST(LaunchMpiTest, LibrariesAndTheirTypes) {
  using Family = MpiLibrary::Family;
  const MpiLibrary open = parse_mpi_library("Open MPI v4.1.4, package: Debian OpenMPI, ident: 4.1.4");
  EXPECT_EQ(open.family, Family::kOpenMpi);
  EXPECT_EQ(open.major_version, 4);
  EXPECT_EQ(open.name, "Open MPI 4.1.4");
  const MpiLibrary mpich = parse_mpi_library("MPICH Version:      4.0.2");
  EXPECT_EQ(mpich.family, Family::kMpich);
  EXPECT_EQ(mpich.name, "MPICH 4.0.2");
  EXPECT_EQ(parse_mpi_library("Intel(R) MPI Library 2021.9 for Linux* OS").family, Family::kIntel);
  EXPECT_EQ(parse_mpi_library("MPI VERSION    : CRAY MPICH version 8.1.25 (ANL base 3.4a2)").family,
            Family::kCray);
  EXPECT_EQ(parse_mpi_library("something else").family, Family::kOther);

  for (const char* good : {"pmix", "pmix_v3", "pmix_v4"}) check_srun_mpi(open, good);
  for (const char* bad : {"pmi2", "none", "openmpi", "pmixx", "cray_shasta"}) {
    EXPECT_THROW(check_srun_mpi(open, bad), Error) << bad;
  }
  try {
    check_srun_mpi(open, "pmi2");
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("Use --mpi=pmix"), std::string::npos) << error.what();
  }
  check_srun_mpi(mpich, "pmi2");
  EXPECT_THROW(check_srun_mpi(mpich, "none"), Error);

  const std::string list =
      "MPI plugin types are...\n\tcray_shasta\n\tnone\n\tpmi2\n\tpmix\nspecific pmix plugin versions "
      "available: pmix_v4\n";
  check_srun_offers(open, "pmix", list);
  EXPECT_THROW(check_srun_offers(open, "pmix", "MPI plugin types are...\n\tnone\n\tpmi2\n"), Error);
  EXPECT_THROW(check_srun_offers(open, "pmix_v9", list), Error);

  check_mpirun(open, "mpirun (Open MPI) 4.1.4\n");
  check_mpirun(open, "prterun (PRRTE) 3.0.0\n");
  EXPECT_THROW(check_mpirun(open, "HYDRA build details:\n    Version: 4.0.2\n"), Error);
  check_mpirun(mpich, "HYDRA build details:\n    Version: 4.0.2\n");
  EXPECT_THROW(check_mpirun(mpich, "mpirun (Open MPI) 4.1.4\n"), Error);
  const auto has_both = [](std::string_view program) { return program.starts_with("mpirun."); };
  const auto has_one = [](std::string_view program) { return program == "mpirun"; };
  EXPECT_EQ(mpirun_name(mpich, has_both), "mpirun.mpich");
  EXPECT_EQ(mpirun_name(open, has_both), "mpirun.openmpi");
  EXPECT_EQ(mpirun_name(mpich, has_one), "mpirun");
  EXPECT_EQ(mpirun_name(parse_mpi_library("Intel(R) MPI Library 2021.9"), has_both), "mpirun");
}

TEST(BootstrapCheckTest, NumberOfStartedRanks) {
  const auto started = [](const Variables& variables) {
    return launched_ranks(environment({.variables = variables}));
  };
  EXPECT_EQ(started({}), 0);
  EXPECT_EQ(started({{"SLURM_STEP_NUM_TASKS", "4"}, {"SLURM_PROCID", "1"}}), 4);
  // mpirun inside a job: the variables of Slurm count its daemons.
  EXPECT_EQ(started({{"SLURM_STEP_NUM_TASKS", "2"}, {"OMPI_COMM_WORLD_SIZE", "8"}}), 8);
  EXPECT_EQ(started({{"SLURM_STEP_NUM_TASKS", "2"}, {"PMI_SIZE", "8"}, {"HYDI_CONTROL_FD", "7"}}), 8);
  EXPECT_EQ(started({{"TUTTI_LAUNCH_RANKS", "16"}, {"OMPI_COMM_WORLD_SIZE", "8"}}), 16);
  EXPECT_THROW(started({{"OMPI_COMM_WORLD_SIZE", "many"}}), Error);
}

TEST(BootstrapCheckTest, SeparateWorldsAreRefused) {
  const MpiLibrary open = parse_mpi_library("Open MPI v4.1.4");
  const MpiLibrary mpich = parse_mpi_library("MPICH Version: 4.0.2");
  const auto refusal = [](const MpiLibrary& library, const Variables& variables) -> std::string {
    try {
      check_bootstrap(environment({.variables = variables}), library);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  const Variables none{{"SLURM_STEP_NUM_TASKS", "4"}, {"SLURM_PROCID", "0"}};
  const Variables pmi2{{"SLURM_STEP_NUM_TASKS", "4"}, {"PMI_RANK", "0"}, {"PMI_SIZE", "4"}, {"PMI_FD", "9"}};
  const Variables pmix{{"SLURM_STEP_NUM_TASKS", "4"}, {"PMIX_RANK", "0"}};
  const Variables mpirun{{"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_RANK", "0"}, {"PMIX_RANK", "0"}};
  const Variables hydra{{"PMI_SIZE", "2"}, {"PMI_RANK", "0"}, {"HYDI_CONTROL_FD", "7"}};
  EXPECT_NE(refusal(open, none).find("4 ranks were started"), std::string::npos);
  EXPECT_NE(refusal(open, none).find("srun --mpi=pmix"), std::string::npos);
  EXPECT_NE(refusal(open, pmi2).find("srun --mpi=pmix"), std::string::npos);
  EXPECT_NE(refusal(open, hydra).find("the mpirun of Open MPI 4.1.4"), std::string::npos);
  EXPECT_NE(refusal(mpich, none).find("srun --mpi=pmi2"), std::string::npos);
  for (const Variables& good : {pmix, mpirun, Variables{}, Variables{{"SLURM_STEP_NUM_TASKS", "1"}}}) {
    EXPECT_EQ(refusal(open, good), "");
  }
  for (const Variables& good : {pmi2, hydra, Variables{}}) EXPECT_EQ(refusal(mpich, good), "");

  check_world_size(environment({.variables = mpirun}), open, 4);
  check_world_size(environment({}), open, 1);
  // MPICH's ranks under Open MPI's mpirun.
  EXPECT_THROW(check_world_size(environment({.variables = mpirun}), mpich, 1), Error);
}

}  // namespace
}  // namespace tutti
