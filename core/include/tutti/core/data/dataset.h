#pragma once

#include <tutti/core/data/content.h>
#include <tutti/core/error.h>
#include <tutti/core/train/batch.h>

#include <cstdint>
#include <span>
#include <string>

namespace tutti {

/// What random augmentation depends on, besides the sample's id.
struct AugmentKey {
  uint64_t seed = 0;   ///< of the run
  uint64_t epoch = 0;  ///< pass over the data
};

/// What reading a sample throws that is damaged: the message names the file and the sample.
class DamagedSample : public Error {
 public:
  using Error::Error;
};

/// Samples by number. What a sample is depends on its id and the key alone: not on the batch it is read in,
/// nor on ranks or threads. All members may be called from several threads at once.
class Dataset {
 public:
  Dataset() = default;
  virtual ~Dataset() = default;
  Dataset(const Dataset&) = delete;
  Dataset& operator=(const Dataset&) = delete;

  /// Samples have the ids 0 .. size() - 1; at least one.
  [[nodiscard]] virtual int64_t size() const = 0;
  /// Of one sample's inputs: (T) tokens, or (H, W, C) of an image.
  [[nodiscard]] virtual Shape sample_shape() const = 0;
  /// Targets are below this: the vocabulary, or the number of classes.
  [[nodiscard]] virtual int64_t classes() const = 0;
  /// Targets of a sample that are not -1.
  [[nodiscard]] virtual int64_t predictions(int64_t id) const = 0;
  /// One line for people: how many samples of what, and what was found but left out.
  [[nodiscard]] virtual std::string description() const { return {}; }
  /// Reads samples into one batch, row by row; first_sample is left 0. Uses the stream's pool. Throws
  /// DamagedSample when one cannot be read.
  [[nodiscard]] virtual Batch read(std::span<const int64_t> ids, AugmentKey key,
                                   const Stream& stream) const = 0;
  /// What the samples are made from, for identify(). A data set that tells nothing cannot be recognised.
  [[nodiscard]] virtual DataContent content() const { return {}; }
};

}  // namespace tutti
