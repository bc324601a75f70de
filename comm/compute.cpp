#include <tutti/comm/compute.h>

#include "comm/placement/device_placement.h"
#include "comm/placement/placement.h"
#include "core/affinity.h"

namespace tutti {
namespace {

ComputeConfig checked(const ComputeConfig& config) {
  check_settings(config, "run");
  return config;
}

}  // namespace

void ComputeConfig::describe(Fields& f) {
  f.value("threads", threads, "threads per rank; 0: an even share of the host's cores", between(0, 4096));
  f.choice("device", device, {"auto", "cpu", "cuda"},
           "where to train: one GPU per rank, or the CPU; auto: GPUs if available");
  f.value("share_gpus", share_gpus, "let several ranks use one GPU: for tests, not for speed");
}

Compute::Compute(Peers& peers, const ComputeConfig& config, AlgorithmSelection selection)
    : placement_(place_device(peers, checked(config).device, config.share_gpus)),
      threads_(place_threads(peers, config.threads, placement_.pci)),
      pool_(std::make_unique<ThreadPool>(threads_.threads, threads_.cores)),
      stream_(on_cpu() ? Stream::inline_on(*pool_)
                       : Stream::cuda(placement_.device.index, Stream::Priority::kNormal, selection)) {
  pool_->bind_caller();
}

Compute::~Compute() {
  if (!threads_.cores.empty()) unbind_caller();
}

}  // namespace tutti
