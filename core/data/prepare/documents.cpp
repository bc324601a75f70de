#include "core/data/prepare/documents.h"
#include <tutti/core/error.h>
#include "core/data/split.h"

#include <algorithm>

namespace tutti {

size_t validation_begin(std::string_view text, double fraction) {
  if (fraction <= 0 || text.size() < 2) return text.size();
  const auto exact = static_cast<size_t>(static_cast<double>(text.size()) * (1 - fraction));
  const size_t target = std::clamp<size_t>(exact, 1, text.size() - 1);
  const size_t wanted = text.size() - target;
  const auto leaves_enough = [&](size_t cut) {
    return cut < text.size() && text.size() - cut >= (wanted + 3) / 4;
  };
  const size_t line = text.find('\n', target);
  if (line != std::string_view::npos && leaves_enough(line + 1)) return line + 1;
  const size_t before = text.rfind('\n', target - 1);
  if (before != std::string_view::npos && target - (before + 1) <= wanted) return before + 1;
  if (const size_t space = cut_point(text, target); leaves_enough(space)) return space;
  // On a character boundary: before the character at the target, or after the first one.
  const auto is_boundary = [&](size_t i) {
    return i == text.size() || (static_cast<unsigned char>(text[i]) & 0xc0U) != 0x80U;
  };
  for (size_t back = 0; back <= 3 && back < target; ++back) {
    if (is_boundary(target - back)) return target - back;
  }
  for (size_t on = 1; on <= 3 && target + on <= text.size(); ++on) {
    if (is_boundary(target + on)) return target + on;
  }
  return target;  // not valid UTF-8
}

std::vector<Document> open_documents(const std::vector<std::string>& paths, double validation_fraction,
                                     TextInput input, ThreadPool& pool) {
  require(!paths.empty(), "data tokens: no input files");
  std::vector<Document> documents;
  size_t train = 0, validation = 0;
  for (const std::string& path : paths) {
    Document document{path, open_text_file(path, input, pool), {}, {}};
    const std::string_view text = document.file.text;
    const size_t cut = validation_begin(text, validation_fraction);
    document.train = text.substr(0, cut);
    document.validation = text.substr(cut);
    train += document.train.size();
    validation += document.validation.size();
    documents.push_back(std::move(document));
  }
  require(train >= 2, "{}: too short: {} bytes to train on", paths.front(), train);
  require(validation_fraction <= 0 || validation >= 2,
          "{}: too short: a fraction of {} leaves {} bytes for validation", paths.front(),
          validation_fraction, validation);
  return documents;
}

}  // namespace tutti
