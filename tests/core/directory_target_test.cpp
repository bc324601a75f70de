#include <tutti/core/error.h>
#include "core/io/target.h"

#include <gtest/gtest.h>

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <set>
#include <sstream>
#include <thread>

#include "tests/core/target_checks.h"
#include "tests/temporary_directory.h"

namespace tutti {
namespace {

class DirectoryTargetTest : public testing::Test {
 protected:
  TemporaryDirectory dir;
};

/// The file "index" of a directory, and the names in the directory.
std::vector<std::string> indexed_earlier(const fs::path& directory) {
  if (!fs::exists(directory / "index")) return {};
  std::vector<std::string> names{"index"};
  std::istringstream lines(read_all(directory / "index"));
  for (std::string line; lines >> line;) names.push_back(line);
  return names;
}

std::string numbered(char kind, int i) {
  return fmt::format("{}{:03}", kind, i);
}

// At any time: the files of the index exist, and no others remain.
TEST_F(DirectoryTargetTest, ASignalDuringACommitLeavesTheOldOrTheNewContent) {
  constexpr int kFiles = 150;
  const fs::path place = dir / "shards";
  const auto write_shards = [&](char kind) {
    DirectoryTarget target(place, {.force = true, .index = "index", .earlier = &indexed_earlier});
    std::string names = "common\n";
    target.add("common").finish();
    for (int i = 0; i < kFiles; ++i) {
      names += numbered(kind, i) + "\n";
      OutputFile file = target.add(numbered(kind, i));
      file.write(std::string(1, kind));
      file.finish();
    }
    OutputFile index = target.add("index");
    index.write(names);
    index.finish();
    target.commit();
  };
  write_shards('a');
  char old = 'a';
  int changed = 0;
  for (int round = 0; round < 12; ++round) {
    const char next = old == 'a' ? 'b' : 'a';
    const int status = in_child([&] {
      // The signal is sent when a file was renamed or removed.
      const fs::path awaited = place / numbered(round % 2 == 0 ? next : old, 1 + 13 * (round / 2));
      std::thread killer([&, there = round % 2 == 0] {
        while (fs::exists(awaited) != there) continue;
        (void)::kill(::getpid(), SIGTERM);
      });
      write_shards(next);
      killer.join();
      (void)::sleep(5);
    });
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM) << status;
    const std::vector<std::string> names = indexed_earlier(place);
    EXPECT_EQ(names_in(place), std::set<std::string>(names.begin(), names.end())) << round;
    EXPECT_EQ(names.size(), kFiles + 2U);
    if (fs::exists(place / numbered(next, 0))) {
      ++changed;
      old = next;
    }
  }
  EXPECT_GT(changed, 0);
}

std::vector<std::string> two_parts(const fs::path& directory) {
  std::vector<std::string> names;
  for (const char* name : {"index", "part-0", "part-1"}) {
    if (fs::exists(directory / "index") && fs::exists(directory / name)) names.emplace_back(name);
  }
  return names;
}

void fill(DirectoryTarget& target, const std::string& name, const std::string& text) {
  OutputFile file = target.add(name);
  file.write(text);
  file.finish();
}

TEST_F(DirectoryTargetTest, OnlyEarlierFilesAreReplaced) {
  const auto rules = [](bool force) {
    return DirectoryRules{.force = force, .names = {"index"}, .index = "index", .earlier = &two_parts};
  };
  {
    DirectoryTarget target(dir / "data" / "shards", rules(false));
    fill(target, "index", "first");
    fill(target, "part-0", "a");
    fill(target, "part-1", "b");
    for (const std::string& name : names_in(dir / "data" / "shards"))
      EXPECT_TRUE(is_temporary_name(name)) << name;
    target.commit();
  }
  const fs::path shards = dir / "data" / "shards";
  EXPECT_EQ(names_in(shards), (std::set<std::string>{"index", "part-0", "part-1"}));
  write_all(shards / "notes.txt", "mine");
  fs::create_directory(shards / "folder");
  EXPECT_NE(refusal([&] { DirectoryTarget(shards, rules(false)); }).find("--force"), std::string::npos);
  fs::create_directory_symlink("data/shards", dir / "link");
  {
    DirectoryTarget target(dir / "link", rules(true));
    fill(target, "index", "second");
    fill(target, "part-0", "c");
    EXPECT_NE(refusal([&] { fill(target, "notes.txt", "x"); }).find("was not written by this command"),
              std::string::npos);
    EXPECT_NE(refusal([&] { fill(target, "folder", "x"); }).find("is a directory"), std::string::npos);
    EXPECT_NE(refusal([&] { fill(target, "../x", "x"); }).find("cannot be the name"), std::string::npos);
    EXPECT_EQ(read_all(shards / "index"), "first");
    EXPECT_EQ(read_all(shards / "part-0"), "a");
    target.commit();
  }
  EXPECT_TRUE(fs::is_symlink(dir / "link"));
  EXPECT_EQ(names_in(shards), (std::set<std::string>{"folder", "index", "notes.txt", "part-0"}));
  EXPECT_EQ(read_all(shards / "index"), "second");
  EXPECT_EQ(read_all(shards / "notes.txt"), "mine");
  {
    DirectoryTarget abandoned(shards, rules(true));
    fill(abandoned, "part-7", "x");
  }
  {
    DirectoryTarget abandoned(dir / "fresh" / "one", rules(false));
    fill(abandoned, "part-7", "x");
  }
  EXPECT_EQ(names_in(shards), (std::set<std::string>{"folder", "index", "notes.txt", "part-0"}));
  EXPECT_EQ(names_in(dir.path()), (std::set<std::string>{"data", "link"}));
}

TEST_F(DirectoryTargetTest, ForeignFilesAndInputsAreKept) {
  fs::create_directory(dir / "d");
  write_all(dir / "d" / "index", "an index");
  DirectoryRules rules{.force = true, .names = {"index"}, .index = "index"};
  EXPECT_NE(refusal([&] { DirectoryTarget(dir / "d", rules); }).find("was not written by this command"),
            std::string::npos);
  rules.earlier = &two_parts;
  write_all(dir / "d" / "part-1", "read by the command");
  fs::create_hard_link(dir / "d" / "part-1", dir / "input");
  rules.inputs = {dir / "input"};
  EXPECT_NE(refusal([&] { DirectoryTarget(dir / "d", rules); }).find("this command reads"),
            std::string::npos);
  EXPECT_EQ(names_in(dir / "d"), (std::set<std::string>{"index", "part-1"}));
  EXPECT_NE(
      refusal([&] { DirectoryTarget(dir / "input", {}); }).find("is a regular file; expected a directory"),
      std::string::npos);
}

TEST_F(DirectoryTargetTest, AFailedCommitRemovesItsFiles) {
  DirectoryTarget target(dir / "d", {.index = "index"});
  fill(target, "part-0", "a");
  fill(target, "part-1", "b");
  fill(target, "index", "i");
  write_all(dir / "d" / "part-1", "of another");
  EXPECT_NE(refusal([&] { target.commit(); }).find("part-1"), std::string::npos);
  for (const std::string& name : names_in(dir / "d"))
    EXPECT_TRUE(name == "part-1" || is_temporary_name(name));
  EXPECT_EQ(read_all(dir / "d" / "part-1"), "of another");
}

}  // namespace
}  // namespace tutti
