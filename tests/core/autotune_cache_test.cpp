#include "core/tuning/autotune_cache.h"
#include <tutti/core/error.h>
#include <tutti/core/io/file.h>

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

namespace tutti {
namespace {
namespace fs = std::filesystem;

class AutotuneCacheTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "tutti_autotune_XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }
  [[nodiscard]] fs::path path() const { return folder_ / "deeper" / "gemm.json"; }
  fs::path folder_;
};

TEST_F(AutotuneCacheTest, ReadBack) {
  {
    AutotuneCache file(path(), "gemm", "device, library 1");
    EXPECT_EQ(file.find("a"), std::nullopt);
    file.store("a", {0, ~uint64_t{0}});
    file.store("b \"quoted\"", {7});
    file.store("a", {1, 2, 3});
  }
  const AutotuneCache again(path(), "gemm", "device, library 1");
  EXPECT_EQ(again.size(), 2U);
  EXPECT_EQ(again.find("a"), (std::vector<uint64_t>{1, 2, 3}));
  EXPECT_EQ(again.find("b \"quoted\""), (std::vector<uint64_t>{7}));
}

TEST_F(AutotuneCacheTest, ProcessesShareAFile) {
  AutotuneCache one(path(), "gemm", "s");
  AutotuneCache other(path(), "gemm", "s");
  one.store("of one", {1});
  other.store("of the other", {2});
  EXPECT_EQ(other.find("of one"), (std::vector<uint64_t>{1})) << "merged while writing";
  EXPECT_EQ(AutotuneCache(path(), "gemm", "s").size(), 2U);
}

TEST_F(AutotuneCacheTest, ResultsOfAnotherLibraryAreIgnored) {
  AutotuneCache(path(), "gemm", "library 1").store("a", {1});
  AutotuneCache newer(path(), "gemm", "library 2");
  EXPECT_EQ(newer.size(), 0U);
  newer.store("b", {2});
  EXPECT_EQ(AutotuneCache(path(), "gemm", "library 2").size(), 1U);
  EXPECT_EQ(AutotuneCache(path(), "conv", "library 2").size(), 0U);
}

TEST_F(AutotuneCacheTest, ADamagedFileIsIgnoredAndReplaced) {
  fs::create_directories(path().parent_path());
  const std::string good = to_json({"gemm", "s", {{"a", {1}}}});
  for (const std::string& text : {std::string(), good.substr(0, good.size() / 2), std::string("[]"),
                                  std::string("{\"format\": \"tutti-choices-1\"}")}) {
    SCOPED_TRACE(text);
    write_file_atomically(path(), text);
    ::testing::internal::CaptureStderr();
    AutotuneCache file(path(), "gemm", "s");
    const std::string notice = ::testing::internal::GetCapturedStderr();
    EXPECT_NE(notice.find(path().string()), std::string::npos) << notice;
    EXPECT_EQ(file.size(), 0U);
    ::testing::internal::CaptureStderr();
    file.store("b", {2});
    (void)::testing::internal::GetCapturedStderr();
    EXPECT_EQ(AutotuneCache(path(), "gemm", "s").find("b"), (std::vector<uint64_t>{2}));
  }
}

TEST_F(AutotuneCacheTest, AnUnwritableDirectoryGivesOneNotice) {
  write_file_atomically(folder_ / "file", "not a folder");
  AutotuneCache file(folder_ / "file" / "gemm.json", "gemm", "s");
  ::testing::internal::CaptureStderr();
  file.store("a", {1});
  EXPECT_NE(::testing::internal::GetCapturedStderr().find("not saved"), std::string::npos);
  ::testing::internal::CaptureStderr();
  file.store("b", {2});
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  EXPECT_EQ(file.find("a"), (std::vector<uint64_t>{1}));
}

TEST_F(AutotuneCacheTest, WithoutAPathResultsStayInMemory) {
  AutotuneCache file({}, "gemm", "s");
  file.store("a", {1});
  EXPECT_EQ(file.find("a"), (std::vector<uint64_t>{1}));
  EXPECT_THROW(file.store("a", {}), Error);
  EXPECT_THROW(file.store("a", std::vector<uint64_t>(kMaxAutotuneWords + 1)), Error);
}

}  // namespace
}  // namespace tutti
