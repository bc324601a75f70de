#include "launcher/run/announcement.h"

#include "core/cuda/config.h"
#include "core/cuda/device.h"

#include <fmt/format.h>

namespace tutti {
namespace {

/// "124,439,808".
std::string thousands(int64_t n) {
  return n < 1000 ? std::to_string(n) : fmt::format("{},{:03}", thousands(n / 1000), n % 1000);
}

/// What a killed run loses, if that is more than with the default time between checkpoints.
std::string possible_loss(const CheckpointConfig& checkpoint) {
  if (checkpoint.every_s > CheckpointConfig{}.every_s) {
    return fmt::format("a run that is killed loses up to {:.0f} s of training (checkpoint.every_s)",
                       checkpoint.every_s);
  }
  if (checkpoint.every_s > 0) return "";
  if (checkpoint.every > 0) {
    return fmt::format("a run that is killed loses up to {} steps of any duration (checkpoint.every_s 0)",
                       checkpoint.every);
  }
  return "nothing is saved before the end: a run that is killed loses all of its steps (checkpoint.every 0, "
         "checkpoint.every_s 0)";
}

std::string plural(int64_t n) {
  return n == 1 ? "" : "s";
}

}  // namespace

std::vector<std::string> Announcement::lines(Module& model) const {
  std::vector<std::string> all;
  const DevicePlacement& device = compute.placement();
  const int threads = compute.threads().threads;
  int64_t parameters = 0;
  for (const Parameter* p : model.parameters()) parameters += p->role == Role::kStatistic ? 0 : p->numel();
  const std::string promise = parallel.exact() ? fmt::format(" (the same bits at 1 to {} ranks)",
                                                             settings.parallel.data.logical_shards)
                                               : "";
  all.push_back(fmt::format("{}: {} parameters, {} rank{} x {} thread{}, {}, {} mode{}", settings.model.kind,
                            thousands(parameters), ranks, plural(ranks), threads, plural(threads),
                            name(settings.precision.compute), settings.parallel.data.mode, promise));
  if constexpr (kWithCuda) {
    if (device.device.type == DeviceType::kCuda) {
      const cuda::DeviceInfo info = cuda::device_info(device.device.index);
      all.push_back(fmt::format("rank 0 on {}: {}, {} GiB, {}{}", name(device.device), info.name,
                                info.memory_bytes >> 30, info.uuid,
                                device.shared ? "; ranks share GPUs" : ""));
      if (const auto most = settings.train.gpu_microbatch)
        all.push_back(fmt::format(
            "train.gpu_microbatch, instead of train.microbatch: {}",
            *most == 0 ? "passes of any size" : fmt::format("passes of up to {} samples", *most)));
    } else if (settings.run.compute.device == "auto" && !device.note.empty()) {
      all.push_back(fmt::format("on the CPU: {}", device.note));
    }
  }
  if (const std::string loss = possible_loss(settings.checkpoint); !loss.empty()) all.push_back(loss);
  all.push_back(fmt::format("run directory {}{}", settings.run.dir,
                            first_step > 0 ? fmt::format(", resumed after step {}", first_step) : ""));
  return all;
}

}  // namespace tutti
