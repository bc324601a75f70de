#include "launcher/cli/commands.h"

#include <array>

namespace tutti {

std::span<const Command* const> commands() {
  static constexpr std::array kAll{&kTrainCommand,  &kLaunchCommand, &kPreflightCommand, &kJobsCommand,
                                   &kLogsCommand,   &kCancelCommand, &kGenerateCommand,  &kEvaluateCommand,
                                   &kImportCommand, &kExportCommand, &kDataCommand,      &kConfigCommand,
                                   &kBenchCommand,  &kReportCommand, &kInfoCommand,      &kCompletionCommand};
  return kAll;
}

}  // namespace tutti
