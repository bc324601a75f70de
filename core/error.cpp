#include <tutti/core/error.h>

#include <system_error>

namespace tutti {

std::string system_error_text(int error_number) {
  return std::error_code(error_number, std::generic_category()).message();
}

}  // namespace tutti
