#pragma once

#include <tutti/core/checkpoint/shared_work.h>
#include "launcher/run/inputs.h"

#include <map>
#include <optional>
#include <string>

namespace tutti {

/// How the ranks of a run read files to check them: `threads` of each, until a signal asks to stop.
SharedWork check_work(std::string name, int threads, std::function<void(const std::string& text)> say);

/// Reads the data as data.verify says and compares it with recorded checksums. Returns what identifies it,
/// for checkpoints; empty if a signal has asked to stop meanwhile. Collective; throws Error on all ranks
/// naming what is damaged.
std::optional<std::map<std::string, std::string>> verify_data(const Inputs& inputs, const DataConfig& config,
                                                              Peers& peers, const SharedWork& work);

}  // namespace tutti
