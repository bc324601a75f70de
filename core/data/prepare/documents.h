#pragma once

#include "core/data/prepare/text_file.h"

#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// A text file, split into training and validation parts.
struct Document {
  std::string name;
  TextFile file;
  std::string_view train, validation;
};

/// Opens text files and splits off the last `validation_fraction` of each for validation. Errors are detected
/// here, before any work: throws Error naming the file that cannot be opened or is not text (open_text_file),
/// or if the training or validation part is shorter than two bytes.
std::vector<Document> open_documents(const std::vector<std::string>& paths, double validation_fraction,
                                     TextInput input, ThreadPool& pool);

/// Where the validation part of a text begins: near 1 - fraction of it, at the next line start if that leaves
/// at least a quarter of the requested size, else at the previous line start if that is at most twice the
/// requested size, else before the next white space by the first rule, else between two characters.
/// text.size() for a fraction of 0.
size_t validation_begin(std::string_view text, double fraction);

}  // namespace tutti
