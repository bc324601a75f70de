#include <tutti/core/train/batch.h>

namespace tutti {

void Batch::use_on(const Stream& stream) const {
  if (inputs.device().type == DeviceType::kCpu) return;
  stream.wait(ready);
  inputs.record_use(stream);
  targets.record_use(stream);
}

}  // namespace tutti
