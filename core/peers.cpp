#include <tutti/core/error.h>
#include <tutti/core/interruption.h>
#include <tutti/core/peers.h>
#include "core/memory/out_of_memory.h"

#include <algorithm>
#include <exception>

namespace tutti {

void Peers::agree(FunctionRef<void()> work) {
  // The first character encodes success or failure: an exception may have an empty message.
  std::string mine = "+";
  try {
    work();
  } catch (const Interrupted& error) {
    mine = std::string("!") + error.what();
  } catch (const std::exception& error) {
    mine = "-" + error_text(error);
  }
  const std::vector<std::string> all = all_gather(mine);
  const auto first = [&](char sign) {
    return std::find_if(all.begin(), all.end(), [&](const auto& text) { return text.front() == sign; });
  };
  const auto failed = first('-');
  if (failed == all.end()) {
    const auto interrupted = first('!');
    if (interrupted != all.end()) throw Interrupted(interrupted->substr(1));
    return;
  }
  const bool same = std::all_of(all.begin(), all.end(), [&](const auto& text) { return text == *failed; });
  throw AgreedError(same ? failed->substr(1)
                         : fmt::format("rank {}: {}", failed - all.begin(), failed->substr(1)));
}

}  // namespace tutti
