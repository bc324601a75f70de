#pragma once

#include "launcher/report/plot.h"
#include "launcher/report/run_data.h"

#include <span>
#include <string>
#include <vector>

namespace tutti {

/// The plots of one run, or of several over each other: loss, learning rate, throughput, time split, gradient
/// norm, and accuracy where there is one.
std::vector<Plot> run_plots(std::span<const RunData> runs);

/// One HTML page with plots, summary, settings and origin of the runs, that needs no other file and runs no
/// script.
std::string html_report(std::span<const RunData> runs);

}  // namespace tutti
