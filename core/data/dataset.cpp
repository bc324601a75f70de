#include <tutti/core/data/dataset.h>
#include <tutti/core/error.h>

namespace tutti {

void require_classes(const Dataset& data, int64_t outputs, std::string_view key) {
  require(outputs >= data.classes(),
          "{} is {}, but the data has {} classes or tokens: it must be at least {}", key, outputs,
          data.classes(), data.classes());
}

}  // namespace tutti
