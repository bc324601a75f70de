#pragma once

#include <tutti/comm/collective.h>
#include <tutti/core/peers.h>

namespace tutti {

/// The other ranks of a Collective, for core. Blocks.
class CollectivePeers final : public Peers {
 public:
  /// `collective` outlives this object and is used by nothing else at the same time.
  explicit CollectivePeers(Collective& collective) : collective_(collective) {}
  [[nodiscard]] int rank() const override { return collective_.rank(); }
  [[nodiscard]] int size() const override { return collective_.size(); }
  std::vector<std::string> all_gather(const std::string& mine) override;

 private:
  Collective& collective_;
};

}  // namespace tutti
