#include "core/tuning/choices.h"
#include <tutti/core/error.h>
#include <tutti/core/io/file.h>

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

namespace tutti {
namespace {
namespace fs = std::filesystem;

class ChoicesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "tutti_choices_XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }
  [[nodiscard]] fs::path path() const { return folder_ / "deeper" / "gemm.json"; }
  fs::path folder_;
};

TEST_F(ChoicesTest, ReadBack) {
  {
    ChoiceFile file(path(), "gemm", "device, library 1");
    EXPECT_EQ(file.find("a"), std::nullopt);
    file.keep("a", {0, ~uint64_t{0}});
    file.keep("b \"quoted\"", {7});
    file.keep("a", {1, 2, 3});
  }
  const ChoiceFile again(path(), "gemm", "device, library 1");
  EXPECT_EQ(again.size(), 2U);
  EXPECT_EQ(again.find("a"), (std::vector<uint64_t>{1, 2, 3}));
  EXPECT_EQ(again.find("b \"quoted\""), (std::vector<uint64_t>{7}));
}

TEST_F(ChoicesTest, ProcessesShareAFile) {
  ChoiceFile one(path(), "gemm", "s");
  ChoiceFile other(path(), "gemm", "s");
  one.keep("of one", {1});
  other.keep("of the other", {2});
  EXPECT_EQ(other.find("of one"), (std::vector<uint64_t>{1})) << "taken over while writing";
  EXPECT_EQ(ChoiceFile(path(), "gemm", "s").size(), 2U);
}

TEST_F(ChoicesTest, AnotherLibraryMeasuresAnew) {
  ChoiceFile(path(), "gemm", "library 1").keep("a", {1});
  ChoiceFile newer(path(), "gemm", "library 2");
  EXPECT_EQ(newer.size(), 0U);
  newer.keep("b", {2});
  EXPECT_EQ(ChoiceFile(path(), "gemm", "library 2").size(), 1U);
  EXPECT_EQ(ChoiceFile(path(), "conv", "library 2").size(), 0U);
}

TEST_F(ChoicesTest, ADamagedFileIsIgnoredAndReplaced) {
  fs::create_directories(path().parent_path());
  const std::string good = to_json({"gemm", "s", {{"a", {1}}}});
  for (const std::string& text : {std::string(), good.substr(0, good.size() / 2), std::string("[]"),
                                  std::string("{\"format\": \"tutti-choices-1\"}")}) {
    SCOPED_TRACE(text);
    write_file_atomically(path(), text);
    ::testing::internal::CaptureStderr();
    ChoiceFile file(path(), "gemm", "s");
    const std::string notice = ::testing::internal::GetCapturedStderr();
    EXPECT_NE(notice.find(path().string()), std::string::npos) << notice;
    EXPECT_EQ(file.size(), 0U);
    ::testing::internal::CaptureStderr();
    file.keep("b", {2});
    (void)::testing::internal::GetCapturedStderr();
    EXPECT_EQ(ChoiceFile(path(), "gemm", "s").find("b"), (std::vector<uint64_t>{2}));
  }
}

TEST_F(ChoicesTest, AFolderThatCannotBeWrittenCostsOneNotice) {
  write_file_atomically(folder_ / "file", "not a folder");
  ChoiceFile file(folder_ / "file" / "gemm.json", "gemm", "s");
  ::testing::internal::CaptureStderr();
  file.keep("a", {1});
  EXPECT_NE(::testing::internal::GetCapturedStderr().find("not kept"), std::string::npos);
  ::testing::internal::CaptureStderr();
  file.keep("b", {2});
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  EXPECT_EQ(file.find("a"), (std::vector<uint64_t>{1}));
}

TEST_F(ChoicesTest, WithoutAPathInMemoryOnly) {
  ChoiceFile file({}, "gemm", "s");
  file.keep("a", {1});
  EXPECT_EQ(file.find("a"), (std::vector<uint64_t>{1}));
  EXPECT_THROW(file.keep("a", {}), Error);
  EXPECT_THROW(file.keep("a", std::vector<uint64_t>(kMaxChoiceWords + 1)), Error);
}

}  // namespace
}  // namespace tutti
