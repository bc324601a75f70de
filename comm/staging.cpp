#include "comm/staging.h"

#include <tutti/core/error.h>

#include <algorithm>

namespace tutti {

std::vector<StagingAction> staging_schedule(int64_t count, int64_t chunk, int buffers) {
  require(count >= 0 && chunk >= 1 && buffers >= 1, "staging: {} elements in chunks of {} with {} buffers",
          count, chunk, buffers);
  const int64_t chunks = (count + chunk - 1) / chunk;
  std::vector<StagingAction> actions;
  actions.reserve(static_cast<size_t>(3 * chunks));
  const auto add = [&](StagingAction::Kind kind, int64_t c) {
    actions.push_back({kind, c * chunk, std::min(count, (c + 1) * chunk), static_cast<int>(c % buffers)});
  };
  for (int64_t c = 0; c < std::min<int64_t>(chunks, buffers); ++c) add(StagingAction::Kind::kDownload, c);
  for (int64_t c = 0; c < chunks; ++c) {
    add(StagingAction::Kind::kExchange, c);
    add(StagingAction::Kind::kUpload, c);
    if (c + buffers < chunks) add(StagingAction::Kind::kDownload, c + buffers);
  }
  return actions;
}

}  // namespace tutti
