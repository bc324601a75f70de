#pragma once

#include <tutti/core/config/fields.h>

#include <cstdint>
#include <string>

namespace tutti {

/// The `metrics` section of a run file: the HTTP endpoint that Prometheus reads.
///
/// Off by default: an unexpected open port is a risk on a shared login node, and two trainings would collide.
/// Every rank has its own port, because waiting times and memory are measured per rank, and a mean would hide
/// a slow one.
struct MetricsSection {
  int64_t port = 0;
  std::string address = "127.0.0.1";
  std::string token_file;
  std::string targets_dir;

  void describe(Fields& f);
};

}  // namespace tutti
