#include "launcher/info/memory_limit.h"
#include "launcher/run/memory_check.h"
#include "tests/temporary_directory.h"

#include <tutti/core/error.h>

#include <gtest/gtest.h>

namespace tutti {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

TEST(MemoryTest, LimitsOfBothKindsOfControlGroups) {
  const TemporaryDirectory root;
  EXPECT_EQ(memory_limit("0::/nowhere\n", root.path(), 8 * kGiB), 0);
  EXPECT_EQ(memory_limit("", root.path(), 8 * kGiB), 0);
  // Slurm limits the job and the step; the task's own group has "max".
  std::filesystem::create_directories(root / "system.slice/job_7/step_0/task_0");
  write_all(root / "system.slice/job_7/step_0/task_0/memory.max", "max\n");
  write_all(root / "system.slice/job_7/step_0/memory.max", "2147483648\n");
  write_all(root / "system.slice/job_7/memory.max", "1073741824\n");
  EXPECT_EQ(memory_limit("0::/system.slice/job_7/step_0/task_0\n", root.path(), 8 * kGiB), kGiB);
  EXPECT_EQ(memory_limit("0::/system.slice/job_7/step_0/task_0\n", root.path(), kGiB / 2), 0)
      << "no limit below the memory of the machine";
  // In a container, its own group is the root.
  write_all(root / "memory.max", "3221225472\n");
  EXPECT_EQ(memory_limit("0::/docker/4711\n", root.path(), 8 * kGiB), 3 * kGiB);
  const TemporaryDirectory old;
  std::filesystem::create_directories(old / "memory/slurm/uid_0/job_7/step_0");
  write_all(old / "memory/slurm/uid_0/job_7/memory.limit_in_bytes", "536870912\n");
  write_all(old / "memory/slurm/uid_0/job_7/step_0/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(
      memory_limit("9:cpu,cpuacct:/x\n8:memory:/slurm/uid_0/job_7/step_0\n0::/\n", old.path(), 8 * kGiB),
      kGiB / 2);
}

TEST(MemoryTest, HostsWithTooLittleMemoryAreNamed) {
  const std::vector<std::string> hosts{fmt::format("node1 {}", 8 * kGiB), fmt::format("node2 {}", 3 * kGiB),
                                       fmt::format("node2 {}", 3 * kGiB), "node3 0"};
  EXPECT_TRUE(memory_warnings(kGiB, hosts).empty());
  const std::vector<std::string> warnings = memory_warnings(2 * kGiB, hosts);
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_NE(warnings[0].find("2 ranks on node2 take at least 4.00 GiB"), std::string::npos) << warnings[0];
  EXPECT_NE(warnings[0].find("may use 3.00 GiB"), std::string::npos) << warnings[0];
}

TEST(MemoryTest, BytesOfWeightsGradientsAndStates) {
  RunSettings settings;
  EXPECT_EQ(min_bytes(10, settings, 3), 160);
  settings.parallel.zero = 1;
  EXPECT_EQ(min_bytes(10, settings, 1), 160);
  EXPECT_EQ(min_bytes(10, settings, 4), 100);
  settings.precision.compute = DType::kBFloat16;
  EXPECT_EQ(min_bytes(10, settings, 4), 60 + 30);
  settings.optimizer.algorithm = "sgd";
  EXPECT_EQ(min_bytes(10, settings, 1), 60 + 80);
  settings.precision.grad = DType::kBFloat16;
  EXPECT_EQ(min_bytes(10, settings, 2), 40 + 40);
}

}  // namespace
}  // namespace tutti
