#pragma once

#include <tutti/core/peers.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace tutti {

/// The outcome of a run, for scripts: summary.json of its directory.
struct Summary {
  int64_t steps = 0;  ///< of the whole run, resumed ones included
  int world_size = 1;
  double loss = 0;  ///< of the last step
  std::optional<double> val_loss;
  std::optional<double> val_accuracy;
  std::optional<double> val_bits_per_byte;  ///< of text
  std::string item = "tokens";              ///< what throughput counts: "tokens" or "images"
  double items_per_s = 0;                   ///< over the training steps of this session
  double wall_s = 0;                        ///< of the training steps of this session
  int64_t peak_memory_bytes = 0;
  std::string params_sha256;
  std::string exit_reason;
};

/// The JSON text: steps, world_size, loss, val_loss, val_accuracy, for text val_bits_per_byte, ITEM_per_s,
/// wall_s, peak_memory_bytes, params_sha256, exit_reason. Non-finite and absent numbers are null.
std::string to_json(const Summary& summary);
/// Writes it atomically.
void write_summary(const std::filesystem::path& path, const Summary& summary);
/// Reads it. Throws Error naming the file and key if it is not a summary.
Summary read_summary(const std::filesystem::path& path);

/// The largest peak resident memory of all ranks so far, in bytes; the same on all ranks.
/// Collective.
int64_t peak_memory_bytes(Peers& peers);

}  // namespace tutti
