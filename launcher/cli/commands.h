#pragma once

#include "launcher/cli/command.h"

namespace tutti {

// Each is in the file of its name.
extern const Command kTrainCommand;
extern const Command kLaunchCommand;
extern const Command kPreflightCommand;
// These three are in jobs.cpp.
extern const Command kJobsCommand;
extern const Command kLogsCommand;
extern const Command kCancelCommand;
extern const Command kGenerateCommand;
extern const Command kEvaluateCommand;
extern const Command kExportCommand;
extern const Command kImportCommand;
extern const Command kDataCommand;
extern const Command kBenchCommand;
extern const Command kConfigCommand;
extern const Command kInfoCommand;
extern const Command kReportCommand;
extern const Command kCompletionCommand;

}  // namespace tutti
