#pragma once

#include <tutti/core/data/content.h>
#include <tutti/core/error.h>
#include <tutti/core/train/batch.h>

#include <cstdint>
#include <span>
#include <string>

namespace tutti {

/// The key of random augmentation, besides the sample's id.
struct AugmentKey {
  uint64_t seed = 0;   ///< of the run
  uint64_t epoch = 0;  ///< pass over the data
};

/// Thrown when a damaged sample is read: the message names the file and the sample.
class DamagedSample : public Error {
 public:
  using Error::Error;
};

/// Samples by number. A sample depends only on its id and the key: not on the batch, ranks or threads.
/// Thread-safe.
class Dataset {
 public:
  Dataset() = default;
  virtual ~Dataset() = default;
  Dataset(const Dataset&) = delete;
  Dataset& operator=(const Dataset&) = delete;

  /// Samples have the ids 0 .. size() - 1; at least one.
  [[nodiscard]] virtual int64_t size() const = 0;
  /// Shape of one sample's inputs: (T) tokens, or (H, W, C) of an image.
  [[nodiscard]] virtual Shape sample_shape() const = 0;
  /// Upper bound of targets: the size of the vocabulary, or the number of classes.
  [[nodiscard]] virtual int64_t classes() const = 0;
  /// Targets of a sample that are not -1.
  [[nodiscard]] virtual int64_t predictions(int64_t id) const = 0;
  /// One line for users: number and kind of samples, and files that are not used.
  [[nodiscard]] virtual std::string description() const { return {}; }
  /// Reads samples into one batch, row by row; first_sample is 0. Uses the stream's pool. Throws
  /// DamagedSample if one cannot be read.
  [[nodiscard]] virtual Batch read(std::span<const int64_t> ids, AugmentKey key,
                                   const Stream& stream) const = 0;
  /// The content of the samples, for identify(). A data set without content cannot be identified.
  [[nodiscard]] virtual DataContent content() const { return {}; }
};

}  // namespace tutti
