#include "launcher/cli/commands.h"

#include <array>

namespace tutti {

std::span<const Command* const> commands() {
  static constexpr std::array kAll{&kTrainCommand, &kInfoCommand, &kReportCommand, &kCompletionCommand};
  return kAll;
}

}  // namespace tutti
