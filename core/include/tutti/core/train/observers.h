#pragma once

#include <tutti/core/function_ref.h>
#include <tutti/core/train/report.h>

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace tutti {

/// Tells observers what happens. What one throws ends no training: it is said once, and once more when the
/// observer is well again.
class Observers {
 public:
  using Note = std::function<void(const std::string& text)>;

  /// The observers outlive this object; `note` gets what a user should know and may be empty.
  Observers(const std::vector<Observer*>& observers, Note note);

  void tell(FunctionRef<void(Observer& observer)> call);
  /// Says something to the user; never throws.
  void say(const std::string& text) noexcept;

 private:
  struct Entry {
    Observer* observer;
    int64_t failures;  ///< since it was well
  };
  std::vector<Entry> entries_;
  Note note_;
};

}  // namespace tutti
