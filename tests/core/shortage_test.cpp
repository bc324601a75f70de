#include "core/memory/shortage.h"
#include <tutti/core/error.h>
#include <tutti/core/peers.h>

#include <gtest/gtest.h>

#include <sys/resource.h>

#include <new>
#include <stdexcept>

namespace tutti {
namespace {

TEST(ShortageTest, ALackOfMemoryIsSaidInWords) {
  const std::string words = words_of(std::bad_alloc());
  EXPECT_TRUE(words.starts_with("out of memory: this process has ")) << words;
  EXPECT_NE(words.find("MiB, the machine has "), std::string::npos) << words;
  EXPECT_EQ(words.find("alloc"), std::string::npos) << words;
  EXPECT_NE(words_of(std::bad_array_new_length()).find("more was asked for"), std::string::npos);
  EXPECT_EQ(words_of(Error("as it is")), "as it is");
  EXPECT_EQ(words_of(std::runtime_error("as it is")), "as it is");
}

TEST(ShortageTest, ALimitOfTheAddressSpaceIsNamed) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_AS, &before), 0);
  const rlimit limit{rlim_t{1} << 50, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_AS, &limit), 0);
  const std::string words = memory_in_words();
  ASSERT_EQ(setrlimit(RLIMIT_AS, &before), 0);
  EXPECT_NE(words.find("its address space is limited to 1073741824 MiB (ulimit -v) and is "),
            std::string::npos)
      << words;
}

TEST(ShortageTest, RanksTellEachOtherInWords) {
  try {
    SinglePeer().agree([] { throw std::bad_alloc(); });
    FAIL();
  } catch (const Error& error) {
    EXPECT_TRUE(std::string(error.what()).starts_with("out of memory: this process has ")) << error.what();
  }
}

}  // namespace
}  // namespace tutti
