#include <tutti/core/train/observers.h>
#include "core/memory/out_of_memory.h"

#include <fmt/format.h>

#include <exception>
#include <utility>

namespace tutti {

Observers::Observers(const std::vector<Observer*>& observers, Note note) : note_(std::move(note)) {
  for (Observer* observer : observers) entries_.push_back({observer, 0});
}

void Observers::tell(FunctionRef<void(Observer& observer)> call) {
  for (Entry& entry : entries_) {
    try {
      call(*entry.observer);
    } catch (const std::exception& error) {
      if (entry.failures++ == 0) say(fmt::format("{}; training goes on without it", error_text(error)));
      continue;
    }
    if (entry.failures == 0) continue;
    say(fmt::format("a record of training can be written again, after {} that could not", entry.failures));
    entry.failures = 0;
  }
}

void Observers::say(const std::string& text) noexcept {
  try {
    if (note_) note_(text);
  } catch (const std::exception&) {
    // Nobody is left to be told.
  }
}

}  // namespace tutti
