#pragma once

#include <cstdint>
#include <vector>

namespace tutti {

/// One action of an operation that copies device memory through host buffers, on elements [begin, end) of
/// each part.
struct StagingAction {
  enum class Kind : uint8_t {
    kDownload,  ///< device to buffer, after the upload that last used the buffer; does not block
    kExchange,  ///< between ranks, from and to buffers, after the download; blocks
    kUpload,    ///< buffer to device; does not block
  };
  Kind kind;
  int64_t begin;
  int64_t end;
  int buffer;
  friend bool operator==(const StagingAction&, const StagingAction&) = default;
};

/// The order in which the host starts the actions of an operation on `count` elements in chunks of `chunk`
/// elements, with `buffers` buffers used in rotation: downloads run ahead as far as buffers allow, so that
/// copies in both directions overlap with the exchange of another chunk. Every rank that calls it with the
/// same numbers exchanges the same chunks in the same order. Empty for no elements. Throws Error unless count
/// >= 0, chunk >= 1 and buffers >= 1.
std::vector<StagingAction> staging_schedule(int64_t count, int64_t chunk, int buffers);

}  // namespace tutti
