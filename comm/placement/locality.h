#pragma once

#include <memory>
#include <string>
#include <vector>

struct hwloc_topology;

namespace tutti {

/// The topology of a machine, from hwloc.
class Locality {
 public:
  /// Of this machine; discovery of PCI and network devices takes longer. Throws Error if hwloc cannot read
  /// it.
  static Locality of_this_machine(bool with_devices);
  /// Of the machine in an XML file of hwloc (lstopo). Throws Error if it cannot be read.
  static Locality from_xml(const std::string& xml);

  /// Orders `cpus` (logical CPUs) so that neighbours share a core, then caches, then a NUMA node: ranks that
  /// divide the list evenly do not share cores or use remote memory. Systems use other orders, often the
  /// first hardware threads of all cores before the second ones.
  [[nodiscard]] std::vector<int> ordered(const std::vector<int>& cpus) const;

  /// Those of `cpus` on the NUMA node of a PCI device such as "0000:17:00.0"; all of them if none is, or if
  /// there is no such device.
  [[nodiscard]] std::vector<int> near_device(const std::string& pci, const std::vector<int>& cpus) const;

  /// Network devices near a PCI device: "mlx5_0", "eth0". Those under a common bridge, if there are any, else
  /// those of its NUMA node. Sorted. NCCL and UCX use the same rule.
  [[nodiscard]] std::vector<std::string> networks_near_device(const std::string& pci) const;

 private:
  struct Free {
    void operator()(hwloc_topology* topology) const noexcept;
  };
  Locality();

  std::unique_ptr<hwloc_topology, Free> topology_;
};

/// The logical CPUs that this process may use, ordered; with a GPU's PCI address, those near it. In the order
/// of the system if hwloc fails. Does not depend on whether the calling thread is bound: one thread may have
/// several Compute.
std::vector<int> cpus_of_rank(const std::string& gpu_pci);

}  // namespace tutti
