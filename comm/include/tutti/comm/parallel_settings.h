#pragma once

#include <tutti/core/config/fields.h>
#include <tutti/core/dtype.h>

#include <cstdint>
#include <optional>
#include <string>

namespace tutti {

enum class AlgorithmSelection : uint8_t;
enum class DeviceType : uint8_t;

/// How a global batch is divided among ranks and how their gradients are summed.
struct DataParallelConfig {
  /// ordered: the batch is divided into `logical_shards` parts for any number of ranks; the gradient of each
  /// is a leaf of one fixed tree. Losses and parameters are then bitwise equal for all numbers of ranks that
  /// are powers of two up to `logical_shards`, and equal up to rounding for others. On GPUs, libraries use
  /// the algorithms of their heuristic (AlgorithmSelection::kHeuristic), not autotuned ones. fast: one part
  /// per rank; microbatches are accumulated in place. auto: ordered on CPUs, fast on GPUs, where small passes
  /// and heuristic algorithms cost more.
  std::string mode = "auto";
  /// A power of two: the maximum number of ranks in ordered mode. Each shard is a separate forward and
  /// backward pass: more shards mean smaller matrices. 4 has no cost on one workstation; runs on more ranks
  /// must set it.
  int64_t logical_shards = 4;
  /// Fast mode only: dtype in which gradients are sent and added; empty: their own.
  std::optional<DType> reduce_dtype;

  void describe(Fields& f);
  /// Replaces auto by its mode on such a device.
  void resolve_mode(DeviceType device);
  /// Required of the compute stream: in ordered mode on a GPU, only kHeuristic is accepted.
  [[nodiscard]] AlgorithmSelection algorithm_selection() const;
};

/// How work is divided among ranks: the `parallel` section of a run file.
struct ParallelConfig {
  DataParallelConfig data;
  int64_t zero = 0;
  int64_t bucket_mib = 8;
  std::string gpu_backend = "auto";
  int64_t max_ctas = 8;
  double timeout_s = 600;

  void describe(Fields& f);
};

}  // namespace tutti
