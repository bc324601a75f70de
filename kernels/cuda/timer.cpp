#include "kernels/cuda/timer.h"

namespace tutti::cuda {

bool capturing(const Stream& stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(native(stream), &status), "cudaStreamIsCapturing");
  return status != cudaStreamCaptureStatusNone;
}

Timer::Timer() : start_(make()), stop_(make()) {}

Timer::Owned Timer::make() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreate(&event), "cudaEventCreate");
  return Owned(event);
}

void Timer::begin(const Stream& stream) const {
  check(cudaStreamSynchronize(native(stream)), "cudaStreamSynchronize");
  check(cudaEventRecord(start_.get(), native(stream)), "cudaEventRecord");
}

float Timer::end(const Stream& stream) const {
  check(cudaEventRecord(stop_.get(), native(stream)), "cudaEventRecord");
  check(cudaEventSynchronize(stop_.get()), "cudaEventSynchronize");
  float ms = 0;
  check(cudaEventElapsedTime(&ms, start_.get(), stop_.get()), "cudaEventElapsedTime");
  return ms;
}

}  // namespace tutti::cuda
