#include <tutti/core/error.h>
#include <tutti/core/memory/shortage.h>
#include <tutti/core/peers.h>

#include <algorithm>
#include <exception>

namespace tutti {

void Peers::agree(FunctionRef<void()> work) {
  // The first character tells success from failure: an exception may have an empty message.
  std::string mine = "+";
  try {
    work();
  } catch (const std::exception& error) {
    mine = "-" + words_of(error);
  }
  const std::vector<std::string> all = all_gather(mine);
  const auto failed =
      std::find_if(all.begin(), all.end(), [](const auto& text) { return text.front() == '-'; });
  if (failed == all.end()) return;
  const bool same = std::all_of(all.begin(), all.end(), [&](const auto& text) { return text == *failed; });
  throw AgreedError(same ? failed->substr(1)
                         : fmt::format("rank {}: {}", failed - all.begin(), failed->substr(1)));
}

}  // namespace tutti
