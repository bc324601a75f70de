#pragma once

#include "core/data/prepare/text_file.h"

#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// A text file in its two parts.
struct Document {
  std::string name;
  TextFile file;
  std::string_view train, validation;
};

/// Opens text files and keeps the last `validation_fraction` of each apart. All that can be known to be wrong
/// is found here, before any work: throws Error naming the file that cannot be opened or is no text
/// (open_text_file), or if what there is to train on or to validate with is shorter than two bytes.
std::vector<Document> open_documents(const std::vector<std::string>& paths, double validation_fraction,
                                     TextInput input, ThreadPool& pool);

/// Where the part of a text that is kept apart begins: near 1 - fraction of it, at the next line's beginning
/// if that leaves at least a quarter of the wanted size, else at the last line's beginning before if that is
/// not more than twice the wanted size, else before the next white space by the first rule, else between two
/// characters. text.size() for a fraction of 0.
size_t validation_begin(std::string_view text, double fraction);

}  // namespace tutti
