#include "core/io/target.h"
#include <tutti/core/error.h>
#include "core/system_check.h"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <set>

#include "tests/core/target_checks.h"
#include "tests/temporary_directory.h"

namespace tutti {
namespace {
namespace fs = std::filesystem;

constexpr uid_t kNobody = 65534;

bool write(const fs::path& path, const TargetRules& rules, const std::string& text) {
  FileTarget target(path, rules);
  OutputFile file = target.open();
  file.write(text);
  file.finish();
  return target.commit();
}

mode_t mode_of(const fs::path& path) {
  struct stat status {};
  EXPECT_EQ(::lstat(path.c_str(), &status), 0);
  return status.st_mode;
}

class TargetTest : public testing::Test {
 protected:
  TemporaryDirectory dir;

  void expect_refused(const fs::path& path, const TargetRules& rules, const std::string& part) {
    const std::set<std::string> before = names_in(dir.path());
    const std::string message = refusal([&] { write(path, rules, "new"); });
    EXPECT_NE(message.find(part), std::string::npos) << path << ": " << message;
    EXPECT_NE(message.find(path.string()), std::string::npos) << message;
    EXPECT_EQ(names_in(dir.path()), before) << path;
  }
};

TEST_F(TargetTest, ANewFileHasTheDefaultModeAndNothingElseRemains) {
  const mode_t mask = ::umask(027);
  EXPECT_FALSE(write(dir / "a", {}, "text"));
  ::umask(mask);
  EXPECT_EQ(read_all(dir / "a"), "text");
  EXPECT_EQ(mode_of(dir / "a"), S_IFREG | 0640);
  EXPECT_EQ(names_in(dir.path()), std::set<std::string>{"a"});
}

TEST_F(TargetTest, AnExistingFileRequiresForceAndKeepsItsMode) {
  write_all(dir / "a", "old");
  ASSERT_EQ(::chmod((dir / "a").c_str(), 0604), 0);
  expect_refused(dir / "a", {}, "exists; choose another name, or use --force");
  EXPECT_EQ(read_all(dir / "a"), "old");
  EXPECT_TRUE(write(dir / "a", {.force = true}, "new"));
  EXPECT_EQ(read_all(dir / "a"), "new");
  EXPECT_EQ(mode_of(dir / "a"), S_IFREG | 0604);
}

TEST_F(TargetTest, EarlierOutputIsIdentifiedByItsGeneratorTag) {
  const TargetRules rules{.inputs = {dir.path()}, .generator_tag = "<made by tutti>"};
  write_all(dir / "a", "<html><made by tutti> old");
  EXPECT_FALSE(write(dir / "a", rules, "new"));
  EXPECT_EQ(read_all(dir / "a"), "new");
  write_all(dir / "late", std::string(5000, ' ') + rules.generator_tag);
  expect_refused(dir / "late", rules, "which this command reads");
}

TEST_F(TargetTest, OtherFileTypesAreRefusedEvenWithForce) {
  ASSERT_EQ(::mkfifo((dir / "fifo").c_str(), 0600), 0);
  const int listener = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, (dir / "socket").c_str(), sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  fs::create_directory(dir / "folder");
  fs::create_symlink(dir / "fifo", dir / "link");
  for (const bool force : {false, true}) {
    expect_refused(dir / "fifo", {.force = force}, "is a FIFO");
    expect_refused(dir / "link", {.force = force}, "is a FIFO");
    expect_refused(dir / "socket", {.force = force}, "is a socket");
    expect_refused(dir / "folder", {.force = force}, "is a directory");
    expect_refused(dir.path().string() + "/folder/", {.force = force}, "is the name of a directory");
    expect_refused(dir / "folder" / "..", {.force = force}, "is the name of a directory");
  }
  ::close(listener);
  if (::mknod((dir / "null").c_str(), S_IFCHR | 0666, makedev(1, 3)) == 0) {
    expect_refused(dir / "null", {.force = true}, "is a device");
    EXPECT_TRUE(S_ISCHR(mode_of(dir / "null")));
    EXPECT_NE(refusal([&] { write_file_atomically(dir / "null", "x"); }).find("is a device"),
              std::string::npos);
  }
  EXPECT_TRUE(S_ISFIFO(mode_of(dir / "fifo")));
}

TEST_F(TargetTest, ALinkIsKeptAndItsFileIsReplaced) {
  fs::create_directory(dir / "store");
  write_all(dir / "store" / "real", "old");
  fs::create_symlink("store/real", dir / "link");
  fs::create_symlink("link", dir / "again");
  expect_refused(dir / "again", {}, "exists");
  EXPECT_TRUE(write(dir / "again", {.force = true}, "new"));
  EXPECT_TRUE(fs::is_symlink(dir / "again"));
  EXPECT_TRUE(fs::is_symlink(dir / "link"));
  EXPECT_EQ(read_all(dir / "store" / "real"), "new");
  EXPECT_EQ(names_in(dir / "store"), std::set<std::string>{"real"});
  fs::create_directory_symlink("store", dir / "way");
  EXPECT_FALSE(write(dir / "way" / "other", {}, "text"));
  EXPECT_EQ(read_all(dir / "store" / "other"), "text");
}

TEST_F(TargetTest, DanglingLinksAndLoopsAreRefused) {
  fs::create_symlink("nothing", dir / "dangling");
  fs::create_symlink("loop2", dir / "loop1");
  fs::create_symlink("loop1", dir / "loop2");
  for (const bool force : {false, true}) {
    expect_refused(dir / "dangling", {.force = force}, "leads to");
    expect_refused(dir / "dangling" / "deeper", {.force = force}, "leads to");
    expect_refused(dir / "loop1", {.force = force}, "loop");
  }
  expect_refused("/dev/stdout", {.force = true}, "/proc");
  expect_refused("/proc/self/fd/1", {.force = true}, "/proc");
  expect_refused("/dev/null/x", {.force = true}, "is a device, not a directory");
}

TEST_F(TargetTest, MissingDirectoriesAreCreatedAndRemovedOnFailure) {
  EXPECT_FALSE(write(dir / "a" / "b" / "c", {}, "text"));
  EXPECT_EQ(read_all(dir / "a" / "b" / "c"), "text");
  {
    const FileTarget target(dir / "x" / "y" / "z");
    EXPECT_TRUE(fs::is_directory(dir / "x" / "y"));
  }
  EXPECT_EQ(names_in(dir.path()), std::set<std::string>{"a"});
  write_all(dir / "file", "");
  expect_refused(dir / "file" / "x", {}, "is a regular file, not a directory");
}

TEST_F(TargetTest, InputsAreNeverReplaced) {
  write_all(dir / "input", "precious");
  fs::create_hard_link(dir / "input", dir / "hard");
  fs::create_symlink("input", dir / "soft");
  fs::create_directories(dir / "run" / "checkpoints" / "step-1");
  write_all(dir / "run" / "checkpoints" / "step-1" / "shard", "weights");
  write_all(dir / "outside", "linked from the run");
  fs::create_symlink("../outside", dir / "run" / "metrics");
  fs::create_hard_link(dir / "run" / "checkpoints" / "step-1" / "shard", dir / "twin");
  fs::create_directory(dir / "scratch");
  write_all(dir / "scratch" / "deep", "behind a link");
  fs::create_directory_symlink(dir / "scratch", dir / "run" / "elsewhere");
  const TargetRules rules{.force = true, .inputs = {dir / "soft", dir / "run", dir / "not-there"}};
  for (const char* name : {"input", "hard", "soft", "run/checkpoints/step-1/shard", "run/./metrics",
                           "outside", "twin", "scratch/deep", "run/../input"}) {
    expect_refused(dir / name, rules, "which this command reads");
  }
  EXPECT_EQ(read_all(dir / "input"), "precious");
  EXPECT_FALSE(write(dir / "run" / "new", rules, "may be added"));
}

TEST_F(TargetTest, StandardOutputIsRefusedUnlessAllowed) {
  EXPECT_NE(refusal([] { FileTarget("-"); }).find("./- for a file named -"), std::string::npos);
  EXPECT_TRUE(FileTarget("-", {.standard_output = true}).is_standard_output());
  EXPECT_FALSE(FileTarget((dir / "-"), {.standard_output = true}).is_standard_output());
  EXPECT_NE(refusal([] { DirectoryTarget("-", {}); }).find("a directory cannot be"), std::string::npos);
  EXPECT_NE(refusal([] { FileTarget("~/x"); }).find("write $HOME/x"), std::string::npos);
  EXPECT_NE(refusal([] { DirectoryTarget("~", {}); }).find("write $HOME"), std::string::npos);
  EXPECT_NE(refusal([] { FileTarget(""); }).find("is empty"), std::string::npos);
}

TEST_F(TargetTest, AFileCreatedMeanwhileAndTheOutputAreBothKept) {
  FileTarget target(dir / "a");
  OutputFile file = target.open();
  file.write("hours of work");
  file.finish();
  write_all(dir / "a", "of another");
  const std::string message = refusal([&] { target.commit(); });
  EXPECT_EQ(read_all(dir / "a"), "of another");
  const std::string kept = message.substr(message.rfind(' ') + 1);
  EXPECT_EQ(read_all(kept), "hours of work") << message;
}

TEST_F(TargetTest, AFailedWriteKeepsTheOldFile) {
  write_all(dir / "a", "old");
  const std::string message = refusal([&] {
    const FileSizeLimit limit(10);
    write(dir / "a", {.force = true}, "more than ten bytes");
  });
  EXPECT_EQ(message, (dir / "a").string() + ": cannot write at byte 10: File too large");
  EXPECT_EQ(read_all(dir / "a"), "old");
  EXPECT_EQ(names_in(dir.path()), std::set<std::string>{"a"});
}

TEST_F(TargetTest, NamesAsLongAsTheSystemAllows) {
  const std::string longest(255, 'n');
  EXPECT_FALSE(write(dir / longest, {}, "x"));
  EXPECT_TRUE(write(dir / longest, {.force = true}, "y"));
  expect_refused(dir / (longest + "n"), {}, "File name too long");
}

TEST_F(TargetTest, ASignalRemovesTemporaryFilesAndEndsTheProcess) {
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGUSR1}) {
    write_all(dir / "a", "old");
    const int status = in_child([&] {
      FileTarget one(dir / "new" / "folder" / "b");
      FileTarget two(dir / "a", {.force = true});
      DirectoryTarget three(dir / "shards" / "c", {.index = "index"});
      OutputFile a = one.open();
      OutputFile b = two.open();
      OutputFile c = three.add("part");
      a.write("half");
      c.write("half");
      (void)::raise(number);
      (void)::sleep(5);
    });
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == number) << status;
    EXPECT_EQ(names_in(dir.path()), std::set<std::string>{"a"}) << number;
    EXPECT_EQ(read_all(dir / "a"), "old");
  }
  // The program's own handler is kept, and afterwards the default one is restored.
  std::signal(SIGTERM, SIG_IGN);
  {
    FileTarget target(dir / "b");
    const OutputFile file = target.open();
    (void)std::raise(SIGTERM);
    struct sigaction now {};
    (void)sigaction(SIGINT, nullptr, &now);
    EXPECT_NE(now.sa_handler, SIG_DFL);
  }
  std::signal(SIGTERM, SIG_DFL);
  struct sigaction now {};
  (void)sigaction(SIGINT, nullptr, &now);
  EXPECT_EQ(now.sa_handler, SIG_DFL);
}

TEST_F(TargetTest, LinksOfOtherAccountsInSharedDirectoriesAreNotFollowed) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to own files as another account";
  ASSERT_EQ(::chmod(dir.path().c_str(), 0755), 0);
  fs::create_directory(dir / "shared");
  fs::create_directory(dir / "victim");
  write_all(dir / "victim" / "file", "precious");
  fs::create_symlink(dir / "victim" / "file", dir / "shared" / "theirs");
  fs::create_symlink(dir / "victim", dir / "shared" / "way");
  fs::create_symlink(dir / "victim" / "file", dir / "shared" / "ours");
  for (const char* name : {"theirs", "way"}) {
    ASSERT_EQ(::lchown((dir / "shared" / name).c_str(), kNobody, kNobody), 0);
  }
  for (const mode_t mode : {01777, 0777, 0775}) {
    ASSERT_EQ(::chmod((dir / "shared").c_str(), mode), 0);
    for (const char* name : {"shared/theirs", "shared/way/file", "shared/way/new"}) {
      if (mode == 0775 && name != std::string("shared/theirs"))
        continue;  // groups may write to directories of inner components
      expect_refused(dir / name, {.force = true}, "belongs to another account (uid 65534)");
      EXPECT_NE(refusal([&] { (void)open_regular(dir / name, O_WRONLY | O_CREAT); }).find("another account"),
                std::string::npos);
    }
    EXPECT_TRUE(write(dir / "shared" / "ours", {.force = true}, "new"));
  }
  // In a directory that only its owner can write, the owner must have created them.
  ASSERT_EQ(::chmod((dir / "shared").c_str(), 0755), 0);
  EXPECT_TRUE(write(dir / "shared" / "theirs", {.force = true}, "newer"));
  // The owner of the directory must still not be able to redirect a file of this account.
  ASSERT_EQ(::chown((dir / "shared").c_str(), kNobody, kNobody), 0);
  expect_refused(dir / "shared" / "theirs", {.force = true}, "belongs to another account");
}

TEST_F(TargetTest, AnotherAccountIsRefusedWithoutPermission) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become another account";
  ASSERT_EQ(::chmod(dir.path().c_str(), 0755), 0);
  write_all(dir / "of_root", "old");
  fs::create_directory(dir / "theirs");
  write_all(dir / "theirs" / "of_root", "old");
  write_all(dir / "theirs" / "own", "old");
  ASSERT_EQ(::chown((dir / "theirs").c_str(), kNobody, kNobody), 0);
  ASSERT_EQ(::chown((dir / "theirs" / "own").c_str(), kNobody, kNobody), 0);
  const int status = in_child(
      [&] {
        const auto expect = [&](const fs::path& path, const std::string& part) {
          const std::string message = refusal([&] { write(path, {.force = true}, "new"); });
          require(message.find(part) != std::string::npos, "{}: '{}' is not in '{}'", path.string(), part,
                  message);
        };
        expect(dir / "new", "no file can be created in");
        expect(dir / "of_root", "Permission denied");
        expect(dir / "deep" / "new", "cannot be created: Permission denied");
        expect(dir / "theirs" / "of_root", "the file is not writable: Permission denied");
        require(write(dir / "theirs" / "own", {.force = true}, "new"), "own file");
      },
      kNobody);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  // Root replaces a file of another account; the owner is kept.
  EXPECT_TRUE(write(dir / "theirs" / "own", {.force = true}, "by root"));
  struct stat now {};
  ASSERT_EQ(::stat((dir / "theirs" / "own").c_str(), &now), 0);
  EXPECT_EQ(now.st_uid, kNobody);
}

TEST(SystemCheckTest, ErrnoIsReadBeforeOtherArguments) {
  const auto clobber = [] {
    errno = EDOM;
    return std::string("argument");
  };
  errno = ENOTTY;
  const std::string before =
      refusal([&] { require_system(::rename("/no/a", "/no/b") == 0, "{}", clobber()); });
  EXPECT_EQ(before, "argument: No such file or directory");
  require_system(true, "never {}", 1);
}

}  // namespace
}  // namespace tutti
