#pragma once

#include <tutti/core/data/data_config.h>
#include <tutti/core/peers.h>
#include "launcher/run/training.h"

#include <filesystem>
#include <string>

namespace tutti {

/// Throws Error, the same on all ranks, if some have other samples than rank 0: sample numbers would then
/// differ. `path` is the path of the data, for the message. Collective.
void check_same_data(const Dataset& data, const std::string& path, Peers& peers);

/// Records the samples that a run skips in `file` of its run directory. Returns a message if an earlier
/// session skipped others; else empty.
std::string record_skip_list(const DataConfig& data, const std::filesystem::path& file);

/// Commands that continue a run after a damaged sample: the end of an error message. `skip` is its data.skip.
std::string damaged_sample_advice(const TrainOptions& options, const std::string& skip);

}  // namespace tutti
