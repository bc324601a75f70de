#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// The GPUs that are visible to a process by CUDA_VISIBLE_DEVICES.
struct VisibleDevices {
  bool all = false;              ///< nothing limits them
  std::vector<std::string> ids;  ///< otherwise: "3", "GPU-8932f937-...", "MIG-..." in the process's order

  /// Whether the ids are MIG instances. CUDA gives a process only the first of several, so each rank needs
  /// an environment of its own.
  [[nodiscard]] bool has_instances() const;
};

/// Reads the variable's text, nullopt for one that is not set. Indices, UUIDs (also shortened ones) and MIG
/// instances of both spellings are understood. As in CUDA, the list ends before the first entry that is not a
/// device, such as -1; an empty text, "NoDevFiles" (Slurm), "none" and "void" show nothing, "all" everything.
/// Throws Error if a device comes twice, for which CUDA shows none.
/// Source: CUDA C++ Programming Guide, "CUDA Environment Variables"; MIG User Guide, "CUDA_VISIBLE_DEVICES".
VisibleDevices parse_visible_devices(std::optional<std::string_view> text);

/// How many GPUs a process sees on a machine that has `installed`.
int64_t visible_count(const VisibleDevices& visible, int64_t installed);

}  // namespace tutti
