#pragma once

#include "cuda_runtime.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

namespace cub {

/// As in CUB's documentation: without scratch memory, only its size is computed.
struct DeviceRadixSort {
  template <class Key, class Value>
  static cudaError_t SortPairs(void* scratch, size_t& bytes, const Key* keys, Key* sorted_keys,
                               const Value* values, Value* sorted_values, int count, int begin_bit,
                               int end_bit, cudaStream_t stream) {
    const size_t needed = std::max<size_t>(1, static_cast<size_t>(count)) * (sizeof(Key) + sizeof(Value));
    if (scratch == nullptr) {
      bytes = needed;
      return cudaSuccess;
    }
    if (bytes < needed || begin_bit < 0 || end_bit <= begin_bit ||
        end_bit > 8 * static_cast<int>(sizeof(Key)))
      return cudaErrorInvalidValue;
    return software_cuda::submit(stream, "cub::DeviceRadixSort", [=] {
      const auto n = static_cast<size_t>(count);
      software_cuda::access(keys, n * sizeof(Key), false);
      software_cuda::access(values, n * sizeof(Value), false);
      software_cuda::access(sorted_keys, n * sizeof(Key), true);
      software_cuda::access(sorted_values, n * sizeof(Value), true);
      software_cuda::access(scratch, needed, true);
      std::vector<size_t> order(n);
      std::iota(order.begin(), order.end(), size_t{0});
      // Only the bits [begin_bit, end_bit) are compared.
      const auto bits = [&](size_t i) {
        return static_cast<uint64_t>(keys[i]) << (64 - end_bit) >> (64 - end_bit + begin_bit);
      };
      std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return bits(a) < bits(b); });
      auto* const key_scratch = static_cast<Key*>(scratch);
      auto* const value_scratch = reinterpret_cast<Value*>(key_scratch + n);
      for (size_t i = 0; i < n; ++i) {
        key_scratch[i] = keys[order[i]];
        value_scratch[i] = values[order[i]];
      }
      std::memcpy(sorted_keys, key_scratch, n * sizeof(Key));
      std::memcpy(sorted_values, value_scratch, n * sizeof(Value));
    });
  }
};

}  // namespace cub
