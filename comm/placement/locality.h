#pragma once

#include <memory>
#include <string>
#include <vector>

struct hwloc_topology;

namespace tutti {

/// The topology of a machine, by hwloc.
class Locality {
 public:
  /// Of this machine; its PCI and network devices take longer to find. Throws Error if hwloc cannot read it.
  static Locality of_this_machine(bool with_devices);
  /// Of the machine in an XML file of hwloc (lstopo). Throws Error if that is not readable.
  static Locality from_xml(const std::string& xml);

  /// `cpus`, logical CPUs, so that neighbours share a core, then caches, then a NUMA node: ranks that divide
  /// the list evenly do not divide cores or use remote memory. Systems number them otherwise,
  /// often the second hardware threads of all cores behind the first ones.
  [[nodiscard]] std::vector<int> ordered(const std::vector<int>& cpus) const;

  /// Those of `cpus` on the NUMA node that a PCI device such as "0000:17:00.0" belongs to. All of them if
  /// none is, or if there is no such device.
  [[nodiscard]] std::vector<int> near_device(const std::string& pci, const std::vector<int>& cpus) const;

  /// Network devices on the same side as a PCI device: "mlx5_0", "eth0". Those under a bridge of both, if
  /// there are any, else those of its NUMA node. Sorted. NCCL and UCX choose by the same rule.
  [[nodiscard]] std::vector<std::string> networks_near_device(const std::string& pci) const;

 private:
  struct Free {
    void operator()(hwloc_topology* topology) const noexcept;
  };
  Locality();

  std::unique_ptr<hwloc_topology, Free> topology_;
};

/// The logical CPUs that this process may use, ordered; with a GPU's PCI address those next to it. In the
/// system's order if hwloc fails.
std::vector<int> cpus_of_rank(const std::string& gpu_pci);

}  // namespace tutti
