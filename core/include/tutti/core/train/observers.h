#pragma once

#include <tutti/core/function_ref.h>
#include <tutti/core/train/report.h>

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace tutti {

/// Notifies observers of events. An exception of one does not end training: it is logged once, and its
/// recovery is logged once.
class Observers {
 public:
  using Note = std::function<void(const std::string& text)>;

  /// The observers outlive this object; `note` receives messages for the user and may be empty.
  Observers(const std::vector<Observer*>& observers, Note note);

  void notify(FunctionRef<void(Observer& observer)> call);
  /// Logs a message for the user; never throws.
  void log(const std::string& text) noexcept;

 private:
  struct Entry {
    Observer* observer;
    int64_t failures;  ///< since its last success
  };
  std::vector<Entry> entries_;
  Note note_;
};

}  // namespace tutti
