#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// One kernel, copy or fill on a device.
struct DeviceSpan {
  int64_t begin_ns = 0;
  int64_t end_ns = 0;
  std::string name;  ///< as the compiler wrote it; "memcpy" and "memset" for what is no kernel
};

/// What spans are told apart by.
enum class DeviceWork : uint8_t { kProducts, kAttention, kConvolutions, kOwn, kCollectives, kCopies, kOther };
inline constexpr size_t kDeviceWorks = 7;
std::string_view name(DeviceWork work);
/// By the names that cuBLAS, cuDNN, NCCL and Tutti give their kernels.
DeviceWork work_of(std::string_view kernel);

/// Where a device's time went in a number of steps.
struct DeviceTime {
  double busy_s = 0;  ///< something ran
  double gaps_s = 0;  ///< nothing ran, though the step's first work had begun and its last had not ended
  std::array<double, kDeviceWorks> work_s{};  ///< by DeviceWork; what runs side by side counts for each
};

/// The means over the steps between neighbouring `marks_ns`, which are moments at which the device had
/// nothing to do. Spans may come in any order; those outside of the marks are left out.
DeviceTime device_time(std::vector<DeviceSpan> spans, std::span<const int64_t> marks_ns);

/// Records what this process's devices do, by CUPTI, the tracing library of the CUDA toolkit. One at a time.
/// Steps are slower under it: for where time goes, not for how much.
class DeviceTrace {
 public:
  /// Null, with the reason in `why_not`, where there is no CUPTI or another tool uses it.
  static std::unique_ptr<DeviceTrace> start(std::string& why_not);
  ~DeviceTrace();
  DeviceTrace(const DeviceTrace&) = delete;
  DeviceTrace& operator=(const DeviceTrace&) = delete;

  /// On the clock of the spans.
  [[nodiscard]] int64_t now_ns() const;
  /// Ends the recording. The devices must have done their work. Throws Error if records were lost.
  std::vector<DeviceSpan> stop();

 private:
  struct State;
  explicit DeviceTrace(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace tutti
