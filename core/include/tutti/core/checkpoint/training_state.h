#pragma once

#include <tutti/core/param_group.h>
#include <tutti/core/tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace tutti {

/// A tensor of a training's state, or the shard of it on this rank.
struct StateTensor {
  std::string name;
  /// Contiguous. Read when saving, written when restoring. Has shape `shape`, or, if sharded, elements
  /// [begin, end) of the row-major tensor; a shard may be empty, but not undefined.
  Tensor data;
  Shape shape;
  Sharding sharding = Sharding::kReplicated;
  int64_t begin = 0;  ///< first element of a shard

  /// A replicated tensor.
  static StateTensor whole(std::string name, Tensor data);
  /// Elements [begin, begin + data.numel()) of a tensor of `shape`; other ranks hold the rest.
  static StateTensor part(std::string name, const Shape& shape, int64_t begin, Tensor data);

  [[nodiscard]] int64_t end() const { return begin + data.numel(); }
};

/// The content of a checkpoint: every rank lists the same tensors in the same order.
struct TrainingState {
  std::vector<StateTensor> model;  ///< replicated only: also readable as plain safetensors files
  std::vector<StateTensor> optimizer;
};

}  // namespace tutti
