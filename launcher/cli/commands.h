#pragma once

#include "launcher/cli/command.h"

namespace tutti {

// Each stands in the file of its name.
extern const Command kTrainCommand;
extern const Command kLaunchCommand;
extern const Command kGenerateCommand;
extern const Command kDataCommand;
extern const Command kConfigCommand;
extern const Command kInfoCommand;
extern const Command kReportCommand;
extern const Command kCompletionCommand;

}  // namespace tutti
