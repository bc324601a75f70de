#include "core/memory/out_of_memory.h"
#include <tutti/core/error.h>
#include <tutti/core/peers.h>

#include <gtest/gtest.h>

#include <sys/resource.h>

#include <new>
#include <stdexcept>

namespace tutti {
namespace {

TEST(OutOfMemoryTest, BadAllocBecomesAMessage) {
  const std::string text = error_text(std::bad_alloc());
  EXPECT_TRUE(text.starts_with("out of memory: this process uses ")) << text;
  EXPECT_NE(text.find("MiB, the machine has "), std::string::npos) << text;
  EXPECT_EQ(text.find("alloc"), std::string::npos) << text;
  EXPECT_NE(error_text(std::bad_array_new_length()).find("the requested size is too large"),
            std::string::npos);
  EXPECT_EQ(error_text(Error("as it is")), "as it is");
  EXPECT_EQ(error_text(std::runtime_error("as it is")), "as it is");
}

TEST(OutOfMemoryTest, ReportsTheAddressSpaceLimit) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_AS, &before), 0);
  const rlimit limit{rlim_t{1} << 50, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_AS, &limit), 0);
  const std::string text = memory_summary();
  ASSERT_EQ(setrlimit(RLIMIT_AS, &before), 0);
  EXPECT_NE(text.find("its address space is limited to 1073741824 MiB (ulimit -v), in use "),
            std::string::npos)
      << text;
}

TEST(OutOfMemoryTest, RanksExchangeTheMessage) {
  try {
    SinglePeer().agree([] { throw std::bad_alloc(); });
    FAIL();
  } catch (const Error& error) {
    EXPECT_TRUE(std::string(error.what()).starts_with("out of memory: this process uses ")) << error.what();
  }
}

}  // namespace
}  // namespace tutti
