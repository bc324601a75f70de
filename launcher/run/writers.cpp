#include "launcher/run/writers.h"

#include <ostream>

namespace tutti {

std::vector<Observer*> Writers::observers() {
  std::vector<Observer*> all;
  if (jsonl) all.push_back(&*jsonl);
  if (tensorboard) all.push_back(&*tensorboard);
  if (progress) all.push_back(&*progress);
  return all;
}

void Writers::log(const std::string& text) {
  if (progress) progress->line(text);
}

void Writers::warn(const std::string& text) {
  if (err != nullptr && (quiet || !progress)) {
    *err << "tutti: " << text << std::endl;
    err->clear();
  } else {
    log(text);
  }
}

void Writers::finish() {
  if (jsonl) jsonl->finish();
  if (tensorboard) tensorboard->finish();
  if (progress) progress->finish();
}

}  // namespace tutti
