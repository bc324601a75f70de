#pragma once

#include <tutti/core/checkpoint/shared_work.h>
#include "launcher/run/inputs.h"

#include <map>
#include <optional>
#include <string>

namespace tutti {

/// Options for checks of files by all ranks: `threads` per rank, cancelled by a stop signal.
SharedWork check_work(std::string name, int threads, std::function<void(const std::string& text)> log);

/// Reads the data according to data.verify and compares it with recorded checksums. Returns its identity for
/// checkpoints; empty if cancelled by a stop signal. Collective; throws Error on all ranks naming the damaged
/// files.
std::optional<std::map<std::string, std::string>> verify_data(const Inputs& inputs, const DataConfig& config,
                                                              Peers& peers, const SharedWork& work);

}  // namespace tutti
