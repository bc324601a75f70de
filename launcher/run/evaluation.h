#pragma once

#include <tutti/comm/collective.h>
#include <tutti/core/data/data_config.h>
#include <tutti/core/data/dataset.h>
#include <tutti/core/data/tokenizer.h>

#include <cstdint>
#include <filesystem>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

namespace tutti {

/// Options of `tutti evaluate`.
struct EvaluateOptions {
  std::filesystem::path model;    ///< run directory, or folder of transformers
  std::string data;               ///< directory; empty: the run's
  std::vector<std::string> sets;  ///< overrides of the run file: data.context=512
  bool training_split = false;    ///< instead of the validation set
  int64_t step = 0;               ///< of the checkpoint; 0: the newest
};

struct Evaluation {
  double loss = 0;                      ///< mean over predictions, nats
  double accuracy = 0;                  ///< fraction of correct predictions
  int64_t count = 0;                    ///< predictions
  std::optional<double> bits_per_byte;  ///< of text whose tokenizer is known
  std::string item;                     ///< "tokens" or "images"
  std::optional<int64_t> step;          ///< of the run's checkpoint
};

/// One pass over a data set, collective over `world`; the result is the same on all ranks, and in ordered
/// mode bitwise equal for all worlds in which training is. Throws Error if the data does not have its
/// recorded checksums, unless data.verify is quick.
Evaluation evaluate(const EvaluateOptions& options, Collective& world, std::ostream& err);

/// Average bytes of text per prediction of this set of tokens; end-of-text tokens have no text. Reads all
/// targets. Empty if there are none.
std::optional<double> bytes_per_prediction(const Dataset& data, const Tokenizer& tokenizer,
                                           const Stream& stream);

/// Converts nats per prediction to bits per byte.
double bits_per_byte(double loss, double bytes_per_prediction);

/// The same for a loss on the validation set of `data`; empty if that is not text of a known tokenizer.
std::optional<double> validation_bits_per_byte(const DataConfig& data, double loss);

}  // namespace tutti
