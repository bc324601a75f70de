#include "comm/placement/locality.h"

#include <tutti/core/error.h>
#include <tutti/core/thread_pool.h>

#include <gtest/gtest.h>

#include <algorithm>

namespace tutti {
namespace {

using Cpus = std::vector<int>;
using Names = std::vector<std::string>;

// Two packages of two cores of two hardware threads, numbered as in Linux: the second threads of all cores
// follow the first ones. On the first package, a GPU and a network device share a bridge; on the second each
// has its own.
constexpr const char* kMachine = R"xml(<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE topology SYSTEM "hwloc2.dtd">
<topology version="2.0">
  <object type="Machine" os_index="0" cpuset="0x000000ff" complete_cpuset="0x000000ff" allowed_cpuset="0x000000ff" nodeset="0x00000003" complete_nodeset="0x00000003" allowed_nodeset="0x00000003" gp_index="1">
    <object type="Package" os_index="0" cpuset="0x00000033" complete_cpuset="0x00000033" nodeset="0x00000001" complete_nodeset="0x00000001" gp_index="10">
      <object type="NUMANode" os_index="0" cpuset="0x00000033" complete_cpuset="0x00000033" nodeset="0x00000001" complete_nodeset="0x00000001" gp_index="8" local_memory="1073741824">
      </object>
      <object type="Core" os_index="0" cpuset="0x00000011" complete_cpuset="0x00000011" nodeset="0x00000001" complete_nodeset="0x00000001" gp_index="4">
        <object type="PU" os_index="0" cpuset="0x00000001" complete_cpuset="0x00000001" nodeset="0x00000001" complete_nodeset="0x00000001" gp_index="2"/>
        <object type="PU" os_index="4" cpuset="0x00000010" complete_cpuset="0x00000010" nodeset="0x00000001" complete_nodeset="0x00000001" gp_index="3"/>
      </object>
      <object type="Core" os_index="1" cpuset="0x00000022" complete_cpuset="0x00000022" nodeset="0x00000001" complete_nodeset="0x00000001" gp_index="7">
        <object type="PU" os_index="1" cpuset="0x00000002" complete_cpuset="0x00000002" nodeset="0x00000001" complete_nodeset="0x00000001" gp_index="5"/>
        <object type="PU" os_index="5" cpuset="0x00000020" complete_cpuset="0x00000020" nodeset="0x00000001" complete_nodeset="0x00000001" gp_index="6"/>
      </object>
      <object type="Bridge" gp_index="30" bridge_type="0-1" depth="0" bridge_pci="0000:[16-20]">
        <object type="PCIDev" gp_index="31" pci_busid="0000:17:00.0" pci_type="0302 [10de:2330] [10de:16c1] a1" pci_link_speed="0.0"></object>
        <object type="PCIDev" gp_index="32" pci_busid="0000:18:00.0" pci_type="0207 [15b3:1021] [15b3:0041] 00" pci_link_speed="0.0"><object type="OSDev" gp_index="33" name="mlx5_0" osdev_type="3"/></object>
      </object>
      <object type="Bridge" gp_index="34" bridge_type="0-1" depth="0" bridge_pci="0000:[30-40]">
        <object type="PCIDev" gp_index="35" pci_busid="0000:31:00.0" pci_type="0200 [8086:1572] [8086:0000] 02" pci_link_speed="0.0"><object type="OSDev" gp_index="36" name="eth0" osdev_type="2"/></object>
      </object>
    </object>
    <object type="Package" os_index="1" cpuset="0x000000cc" complete_cpuset="0x000000cc" nodeset="0x00000002" complete_nodeset="0x00000002" gp_index="19">
      <object type="NUMANode" os_index="1" cpuset="0x000000cc" complete_cpuset="0x000000cc" nodeset="0x00000002" complete_nodeset="0x00000002" gp_index="17" local_memory="1073741824">
      </object>
      <object type="Core" os_index="2" cpuset="0x00000044" complete_cpuset="0x00000044" nodeset="0x00000002" complete_nodeset="0x00000002" gp_index="13">
        <object type="PU" os_index="2" cpuset="0x00000004" complete_cpuset="0x00000004" nodeset="0x00000002" complete_nodeset="0x00000002" gp_index="11"/>
        <object type="PU" os_index="6" cpuset="0x00000040" complete_cpuset="0x00000040" nodeset="0x00000002" complete_nodeset="0x00000002" gp_index="12"/>
      </object>
      <object type="Core" os_index="3" cpuset="0x00000088" complete_cpuset="0x00000088" nodeset="0x00000002" complete_nodeset="0x00000002" gp_index="16">
        <object type="PU" os_index="3" cpuset="0x00000008" complete_cpuset="0x00000008" nodeset="0x00000002" complete_nodeset="0x00000002" gp_index="14"/>
        <object type="PU" os_index="7" cpuset="0x00000080" complete_cpuset="0x00000080" nodeset="0x00000002" complete_nodeset="0x00000002" gp_index="15"/>
      </object>
      <object type="Bridge" gp_index="40" bridge_type="0-1" depth="0" bridge_pci="0000:[96-a0]">
        <object type="PCIDev" gp_index="41" pci_busid="0000:97:00.0" pci_type="0302 [10de:2330] [10de:16c1] a1" pci_link_speed="0.0"></object>
      </object>
      <object type="Bridge" gp_index="42" bridge_type="0-1" depth="0" bridge_pci="0000:[b0-c0]">
        <object type="PCIDev" gp_index="43" pci_busid="0000:b1:00.0" pci_type="0207 [15b3:1021] [15b3:0041] 00" pci_link_speed="0.0"><object type="OSDev" gp_index="44" name="mlx5_1" osdev_type="3"/></object>
      </object>
    </object>
  </object>
</topology>)xml";

const Cpus kAll{0, 1, 2, 3, 4, 5, 6, 7};
constexpr const char* kFirst = "0000:17:00.0";
constexpr const char* kSecond = "0000:97:00.0";

TEST(LocalityTest, NeighboursShareCoresAndThenMemory) {
  const auto machine = Locality::from_xml(kMachine);
  EXPECT_EQ(machine.ordered(kAll), (Cpus{0, 4, 1, 5, 2, 6, 3, 7}));
  EXPECT_EQ(machine.ordered({7, 2, 1}), (Cpus{1, 2, 7})) << "CPUs that this process may not use";
  EXPECT_EQ(machine.ordered({99, 3, 2}), (Cpus{2, 3, 99})) << "a CPU that is not in the topology";
  EXPECT_TRUE(machine.ordered({}).empty());
}

TEST(LocalityTest, CpusNearAGpu) {
  const auto machine = Locality::from_xml(kMachine);
  const Cpus ordered = machine.ordered(kAll);
  EXPECT_EQ(machine.near_device(kFirst, ordered), (Cpus{0, 4, 1, 5}));
  EXPECT_EQ(machine.near_device(kSecond, ordered), (Cpus{2, 6, 3, 7}));
  EXPECT_EQ(machine.near_device(kFirst, {2, 3}), (Cpus{2, 3})) << "the binding was not kept";
  for (const char* const none : {"", "0000:55:00.0", "nonsense"})
    EXPECT_EQ(machine.near_device(none, ordered), ordered) << none;
}

TEST(LocalityTest, NetworksNearAGpu) {
  const auto machine = Locality::from_xml(kMachine);
  EXPECT_EQ(machine.networks_near_device(kFirst), Names{"mlx5_0"}) << "on the same bridge";
  EXPECT_EQ(machine.networks_near_device(kSecond), Names{"mlx5_1"}) << "on the same package";
  EXPECT_TRUE(machine.networks_near_device("0000:55:00.0").empty());
}

TEST(LocalityTest, ThisMachine) {
  Cpus mine = cpus_of_rank("");
  std::sort(mine.begin(), mine.end());
  EXPECT_EQ(mine, usable_core_list());
}

TEST(LocalityTest, InvalidTopologiesAreRefused) {
  EXPECT_THROW((void)Locality::from_xml("<topology>"), Error);
  EXPECT_THROW((void)Locality::from_xml(""), Error);
}

}  // namespace
}  // namespace tutti
