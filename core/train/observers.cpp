#include <tutti/core/train/observers.h>
#include "core/memory/out_of_memory.h"

#include <fmt/format.h>

#include <exception>
#include <utility>

namespace tutti {

Observers::Observers(const std::vector<Observer*>& observers, Note note) : note_(std::move(note)) {
  for (Observer* observer : observers) entries_.push_back({observer, 0});
}

void Observers::notify(FunctionRef<void(Observer& observer)> call) {
  for (Entry& entry : entries_) {
    try {
      call(*entry.observer);
    } catch (const std::exception& error) {
      if (entry.failures++ == 0) log(fmt::format("{}; training continues without it", error_text(error)));
      continue;
    }
    if (entry.failures == 0) continue;
    log(fmt::format("records of training are written again after {} failures", entry.failures));
    entry.failures = 0;
  }
}

void Observers::log(const std::string& text) noexcept {
  try {
    if (note_) note_(text);
  } catch (const std::exception&) {
    // There is no other place to log to.
  }
}

}  // namespace tutti
