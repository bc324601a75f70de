#include "launcher/run_directory.h"
#include "launcher/info/git.h"
#include "launcher/info/libraries.h"
#include "launcher/info/machine.h"
#include "launcher/metrics/jsonl.h"
#include "launcher/metrics/summary.h"
#include "tests/temporary_directory.h"

#include <gtest/gtest.h>
#include <tutti/core/error.h>
#include <tutti/core/thread_pool.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <unistd.h>

#include <cstdlib>

namespace tutti {
namespace {

std::string refusal(const std::filesystem::path& path, ExistingRun existing) {
  SinglePeer peer;
  try {
    const RunDirectory run(path, existing, peer);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(RunDirectoryTest, ContainsEverythingToRepeatTheRun) {
  const TemporaryDirectory folder;
  SinglePeer peer;
  setenv("OMP_TEST_VARIABLE", "seen", 1);
  setenv("OMPI_MCA_btl", "self,tcp", 1);
  setenv("TUTTI_ISA", "avx2", 1);
  setenv("OMP_API_KEY", "hunter2", 1);
  setenv("OMP_PROXY", "http://me:hunter2@proxy/", 1);
  setenv("TUTTI_SOMETHING", "hunter2", 1);
  setenv("OMPI_MCA_orte_precondition_transports", "hunter2", 1);
  setenv("SECRET_TOKEN", "hunter2", 1);
  setenv("TUTTI_METRICS_TOKEN", "hunter2", 1);
  const RunDirectory run(folder / "runs" / "a", ExistingRun::kRefuse, peer);
  run.begin({.run_file = "train:\n  steps: 5\n",
             .seed = 77,
             .command_line = {"tutti", "train", "x.yaml", "--set", "run.dir=a \"b\""},
             .threads = 3},
            peer);
  EXPECT_EQ(read_all(run.run_file()), "train:\n  steps: 5\n");
  const std::string text = read_all(run.manifest());
  EXPECT_EQ(text.find("hunter2"), std::string::npos);
  const auto manifest = nlohmann::json::parse(text);
  EXPECT_EQ(manifest["format"], "tutti-run");
  ASSERT_EQ(manifest["sessions"].size(), 1U);
  const auto& session = manifest["sessions"][0];
  EXPECT_EQ(session["seed"], 77);
  EXPECT_EQ(session["command_line"][4], "run.dir=a \"b\"");
  EXPECT_EQ(session["world_size"], 1);
  EXPECT_EQ(session["ranks"][0]["threads"], 3);
  EXPECT_FALSE(session["ranks"][0]["host"].get<std::string>().empty());
  EXPECT_EQ(session["environment"]["OMP_TEST_VARIABLE"], "seen");
  EXPECT_EQ(session["environment"]["OMPI_MCA_btl"], "self,tcp");
  EXPECT_EQ(session["environment"]["TUTTI_ISA"], "avx2");
  unsetenv("TUTTI_ISA");
  unsetenv("OMPI_MCA_btl");
  EXPECT_EQ(session["working_directory"], std::filesystem::current_path().string());
  EXPECT_TRUE(session["libraries"].contains("MPI"));
  EXPECT_TRUE(session["tutti"].contains("revision"));
  EXPECT_EQ(session["run_file_sha256"].get<std::string>().size(), 64U);
}

TEST(RunDirectoryTest, ForeignFilesAreNotOverwritten) {
  const std::string text = "{\"name\": \"mine\"}";
  for (const char* const name :
       {"run.yaml", "manifest.json", "tokenizer.json", "skip.txt", "metrics-targets.json"}) {
    const TemporaryDirectory folder;
    write_all(folder / "mine", text);
    for (const char* const place : {"file", "link"}) std::filesystem::create_directories(folder / place);
    write_all(folder / "file" / name, text);
    std::filesystem::create_symlink(folder / "mine", folder / "link" / name);
    for (const ExistingRun existing : {ExistingRun::kRefuse, ExistingRun::kResume}) {
      for (const char* const place : {"file", "link"}) {
        EXPECT_EQ(refusal(folder / place, existing),
                  fmt::format("run.dir: {} exists, was not written by a run, and would be overwritten. "
                              "Choose another run.dir",
                              (folder / place / name).string()));
        EXPECT_EQ(read_all(folder / place / name), text);
      }
    }
  }
}

TEST(RunDirectoryTest, AFinishedRunIsNotOverwritten) {
  const TemporaryDirectory folder;
  SinglePeer peer;
  const std::filesystem::path path = folder / "run";
  EXPECT_EQ(refusal(path, ExistingRun::kRefuse), "");
  // A run that has not begun may be started again.
  RunDirectory(path, ExistingRun::kRefuse, peer).begin({.run_file = "a: 1\n"}, peer);
  EXPECT_EQ(refusal(path, ExistingRun::kRefuse), "");

  JsonlWriter(path / "metrics.jsonl").on_step({.step = 1});
  EXPECT_NE(refusal(path, ExistingRun::kRefuse).find("contains metrics of a run; continue it with --resume"),
            std::string::npos);
  std::filesystem::create_directories(path / "checkpoints" / "step-00000010");
  EXPECT_NE(refusal(path, ExistingRun::kRefuse).find("contains checkpoints"), std::string::npos);
  write_summary(path / "summary.json", {.steps = 10, .exit_reason = "completed"});
  EXPECT_NE(refusal(path, ExistingRun::kRefuse).find("has ended after 10 steps (completed)"),
            std::string::npos);
  EXPECT_EQ(refusal(path, ExistingRun::kResume), "");

  // A resumed run keeps its earlier sessions and has no summary yet.
  const RunDirectory run(path, ExistingRun::kResume, peer);
  run.begin({.run_file = "a: 2\n", .resumed_step = 10}, peer);
  EXPECT_FALSE(std::filesystem::exists(run.summary()));
  EXPECT_EQ(read_all(run.run_file()), "a: 2\n");
  const auto manifest = nlohmann::json::parse(read_all(run.manifest()));
  ASSERT_EQ(manifest["sessions"].size(), 2U);
  EXPECT_EQ(manifest["sessions"][0]["resumed_step"], 0);
  EXPECT_EQ(manifest["sessions"][1]["resumed_step"], 10);
}

TEST(RunDirectoryTest, OneRunAtATime) {
  const TemporaryDirectory folder;
  SinglePeer peer;
  const std::filesystem::path path = folder / "run";
  {
    const RunDirectory run(path, ExistingRun::kRefuse, peer);
    const std::string message = refusal(path, ExistingRun::kResume);
    EXPECT_NE(message.find(fmt::format("in use by a run: process {} on ", getpid())), std::string::npos)
        << message;
  }
  EXPECT_EQ(refusal(path, ExistingRun::kResume), "");
  EXPECT_FALSE(std::filesystem::exists(path / "lock"));
}

TEST(RunDirectoryTest, LaterSessionsHaveTheSameIdAndADamagedManifestIsRenamed) {
  const TemporaryDirectory folder;
  SinglePeer peer;
  const std::filesystem::path path = folder / "run";
  std::string id;
  {
    RunDirectory run(path, ExistingRun::kResume, peer);
    EXPECT_FALSE(run.has_earlier_id());
    id = run.id();
    EXPECT_EQ(id.size(), 16U);
    run.begin({.run_file = "a: 1\n"}, peer);
  }
  {
    const RunDirectory run(path, ExistingRun::kResume, peer);
    EXPECT_TRUE(run.has_earlier_id());
    EXPECT_EQ(run.id(), id);
    EXPECT_TRUE(run.notes().empty());
  }
  for (const char* text :
       {"not json", "", "[]", "{\"sessions\": 3}", "{\"sessions\": [], \"sessions\": []}"}) {
    write_all(path / "manifest.json", text);
    RunDirectory run(path, ExistingRun::kResume, peer);
    EXPECT_FALSE(run.has_earlier_id());
    ASSERT_EQ(run.notes().size(), 1U) << text;
    EXPECT_NE(run.notes()[0].find("manifest.json.damaged"), std::string::npos) << run.notes()[0];
    EXPECT_EQ(read_all(path / "manifest.json.damaged"), text);
    run.take_id(id);
    run.begin({.run_file = "a: 1\n", .resumed_step = 3}, peer);
    EXPECT_EQ(nlohmann::json::parse(read_all(run.manifest()))["id"], id);
  }
}

TEST(RunDirectoryTest, UnwritableDirectoriesAreNamed) {
  const TemporaryDirectory folder;
  write_all(folder / "file", "x");
  EXPECT_NE(refusal(folder / "file", ExistingRun::kRefuse).find((folder / "file").string()),
            std::string::npos);
  EXPECT_NE(refusal(folder / "file" / "run", ExistingRun::kResume).find("cannot be created"),
            std::string::npos);
  EXPECT_NE(refusal("", ExistingRun::kRefuse).find("run.dir"), std::string::npos);
}

TEST(GitTest, ReadsTheCommitOfBranchesTagsAndWorktrees) {
  const TemporaryDirectory folder;
  const std::string commit(40, 'a');
  const std::string other(40, 'b');
  EXPECT_EQ(git_revision(folder.path()), "");
  const std::filesystem::path git = folder / ".git";
  std::filesystem::create_directories(git / "refs" / "heads");
  std::filesystem::create_directories(folder / "deep" / "down");
  write_all(git / "HEAD", "ref: refs/heads/main\n");
  EXPECT_EQ(git_revision(folder.path()), "");  // no commit yet
  write_all(git / "packed-refs", "# pack-refs\n" + other + " refs/heads/main\n");
  EXPECT_EQ(git_revision(folder / "deep" / "down"), other);
  write_all(git / "refs" / "heads" / "main", commit + "\n");
  EXPECT_EQ(git_revision(folder / "deep" / "down"), commit);
  write_all(git / "HEAD", other + "\n");
  EXPECT_EQ(git_revision(folder.path()), other);

  std::filesystem::create_directories(git / "worktrees" / "w");
  std::filesystem::create_directories(folder / "elsewhere");
  write_all(folder / "elsewhere" / ".git", "gitdir: " + (git / "worktrees" / "w").string() + "\n");
  write_all(git / "worktrees" / "w" / "HEAD", "ref: refs/heads/main\n");
  write_all(git / "worktrees" / "w" / "commondir", "../..\n");
  EXPECT_EQ(git_revision(folder / "elsewhere"), commit);

  write_all(git / "HEAD", "nonsense\n");
  EXPECT_EQ(git_revision(folder.path()), "");
}

TEST(InfoTest, DescribesThisMachine) {
  const MachineInfo machine = machine_info();
  EXPECT_FALSE(machine.host.empty());
  EXPECT_GE(machine.cores, 1);
  EXPECT_GE(machine.threads, machine.cores);
  EXPECT_EQ(machine.usable_threads, usable_cores());
  EXPECT_GT(machine.memory_bytes, int64_t{64} << 20);
  EXPECT_GT(machine.available_bytes, 0);
  EXPECT_LE(machine.available_bytes, machine.memory_bytes);
  EXPECT_GT(peak_resident_bytes(), int64_t{1} << 20);
}

TEST(InfoTest, LibrariesHavePrintableVersions) {
  const auto libraries = library_versions();
  EXPECT_GE(libraries.size(), 6U);
  for (const auto& [name, version] : libraries) {
    EXPECT_FALSE(version.empty()) << name;
    for (const char c : version)
      EXPECT_TRUE(static_cast<unsigned char>(c) >= 0x20) << name << ": " << version;
  }
}

}  // namespace
}  // namespace tutti
