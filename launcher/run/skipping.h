#pragma once

#include <tutti/core/data/data_config.h>
#include <tutti/core/peers.h>
#include "launcher/run/training.h"

#include <filesystem>
#include <string>

namespace tutti {

/// Throws Error, the same on all ranks, if some of them see other samples than rank 0: then numbers would
/// mean different samples. `path` is where the data is, for the message. Collective.
void check_same_data(const Dataset& data, const std::string& path, Peers& peers);

/// Keeps the samples that a run leaves out in `file` of its run directory. Returns what to say where an
/// earlier session left out others; empty otherwise.
std::string record_skip_list(const DataConfig& data, const std::filesystem::path& file);

/// How a run that met a damaged sample can go on, as commands to type: the end of an error message. `skip` is
/// its data.skip.
std::string ways_out_of_damage(const TrainOptions& options, const std::string& skip);

}  // namespace tutti
