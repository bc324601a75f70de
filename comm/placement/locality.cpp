#include "comm/placement/locality.h"

#include <tutti/core/error.h>
#include "core/affinity.h"

#include <hwloc.h>

#include <algorithm>
#include <iterator>

namespace tutti {
namespace {

/// The device, or null.
hwloc_obj_t find_device(hwloc_topology_t topology, const std::string& pci) {
  return pci.empty() ? nullptr : hwloc_get_pcidev_by_busidstring(topology, pci.c_str());
}

bool is_network(const hwloc_obj* device) {
  return device->name != nullptr && (device->attr->osdev.type == HWLOC_OBJ_OSDEV_NETWORK ||
                                     device->attr->osdev.type == HWLOC_OBJ_OSDEV_OPENFABRICS);
}

bool is_under(const hwloc_obj* object, const hwloc_obj* ancestor) {
  while (object != nullptr && object != ancestor) object = object->parent;
  return object != nullptr;
}

std::vector<std::string> networks_under(hwloc_topology_t topology, const hwloc_obj* ancestor) {
  std::vector<std::string> names;
  for (hwloc_obj_t device = hwloc_get_next_osdev(topology, nullptr); device != nullptr;
       device = hwloc_get_next_osdev(topology, device)) {
    if (is_network(device) && is_under(device, ancestor)) names.emplace_back(device->name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

void Locality::Free::operator()(hwloc_topology* topology) const noexcept {
  hwloc_topology_destroy(topology);
}

Locality::Locality() {
  hwloc_topology_t topology = nullptr;
  require(hwloc_topology_init(&topology) == 0, "hwloc: cannot create a topology");
  topology_.reset(topology);
}

Locality Locality::of_this_machine(bool with_devices) {
  Locality machine;
  const auto filter = with_devices ? HWLOC_TYPE_FILTER_KEEP_IMPORTANT : HWLOC_TYPE_FILTER_KEEP_NONE;
  require(hwloc_topology_set_io_types_filter(machine.topology_.get(), filter) == 0 &&
              hwloc_topology_load(machine.topology_.get()) == 0,
          "hwloc: cannot read this machine's topology");
  return machine;
}

Locality Locality::from_xml(const std::string& xml) {
  Locality machine;
  hwloc_topology_t const topology = machine.topology_.get();
  // The size includes the zero byte at the end.
  require(hwloc_topology_set_io_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_IMPORTANT) == 0 &&
              hwloc_topology_set_xmlbuffer(topology, xml.c_str(), static_cast<int>(xml.size() + 1)) == 0 &&
              hwloc_topology_load(topology) == 0,
          "hwloc: cannot read the topology as XML");
  return machine;
}

std::vector<int> Locality::ordered(const std::vector<int>& cpus) const {
  std::vector<int> order;
  order.reserve(cpus.size());
  for (hwloc_obj_t unit = hwloc_get_next_obj_by_type(topology_.get(), HWLOC_OBJ_PU, nullptr); unit != nullptr;
       unit = hwloc_get_next_obj_by_type(topology_.get(), HWLOC_OBJ_PU, unit)) {
    const int cpu = static_cast<int>(unit->os_index);
    if (std::find(cpus.begin(), cpus.end(), cpu) != cpus.end()) order.push_back(cpu);
  }
  for (const int cpu : cpus) {  // unknown to hwloc: last
    if (std::find(order.begin(), order.end(), cpu) == order.end()) order.push_back(cpu);
  }
  return order;
}

std::vector<int> Locality::near_device(const std::string& pci, const std::vector<int>& cpus) const {
  const hwloc_obj_t device = find_device(topology_.get(), pci);
  if (device == nullptr) return cpus;
  const hwloc_obj_t place = hwloc_get_non_io_ancestor_obj(topology_.get(), device);
  if (place == nullptr || place->cpuset == nullptr) return cpus;
  std::vector<int> near;
  std::copy_if(cpus.begin(), cpus.end(), std::back_inserter(near),
               [&](int cpu) { return hwloc_bitmap_isset(place->cpuset, static_cast<unsigned>(cpu)) != 0; });
  return near.empty() ? cpus : near;
}

std::vector<std::string> Locality::networks_near_device(const std::string& pci) const {
  const hwloc_obj_t device = find_device(topology_.get(), pci);
  if (device == nullptr) return {};
  for (const hwloc_obj* bridge = device->parent; bridge != nullptr && bridge->type == HWLOC_OBJ_BRIDGE;
       bridge = bridge->parent) {
    std::vector<std::string> names = networks_under(topology_.get(), bridge);
    if (!names.empty()) return names;
  }
  return networks_under(topology_.get(), hwloc_get_non_io_ancestor_obj(topology_.get(), device));
}

std::vector<int> cpus_of_rank(const std::string& gpu_pci) {
  std::vector<int> cpus = unbound_core_list();
  try {
    const auto machine = Locality::of_this_machine(!gpu_pci.empty());
    cpus = machine.near_device(gpu_pci, machine.ordered(cpus));
  } catch (const Error&) {
    // Threads are then placed in the system's CPU order, which is slower on some machines.
  }
  return cpus;
}

}  // namespace tutti
