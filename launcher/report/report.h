#pragma once

#include "launcher/report/plot.h"
#include "launcher/report/run_data.h"

#include <span>
#include <string>
#include <vector>

namespace tutti {

/// The plots of one run, or of several in the same plots: loss, learning rate, throughput, time split,
/// gradient norm, and accuracy if there is one.
std::vector<Plot> run_plots(std::span<const RunData> runs);

/// One HTML page with plots, summary, settings and origin of the runs, without scripts or references to other
/// files.
std::string html_report(std::span<const RunData> runs);

}  // namespace tutti
