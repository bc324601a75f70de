#include <tutti/core/data/skip_list.h>
#include <tutti/core/error.h>
#include <tutti/core/io/file.h>
#include <tutti/core/io/sha256.h>

#include <algorithm>

namespace tutti {
namespace {

constexpr int64_t kMaxBytes = int64_t{256} << 20;

std::string escaped(std::string_view text) {
  std::string line;
  for (const char c : text) {
    if (c == '\n')
      line += "\\n";
    else if (c == '\r')
      line += "\\r";
    else if (c == '\\')
      line += "\\\\";
    else
      line += c;
  }
  return line;
}

std::string unescaped(std::string_view line, const std::string& where) {
  std::string text;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] != '\\') {
      text += line[i];
      continue;
    }
    const char next = ++i < line.size() ? line[i] : '\0';
    require(next == 'n' || next == 'r' || next == '\\', "{}: expected n, r or a backslash after a backslash",
            where);
    text += next == 'n' ? '\n' : next == 'r' ? '\r' : '\\';
  }
  return text;
}

std::string line_of(const SkipList::Entry& entry) {
  return fmt::format("{} {}", name(entry.split), escaped(entry.name));
}

}  // namespace

std::string_view name(Split split) {
  return split == Split::kTraining ? "train" : "validation";
}

SkipList SkipList::parse(std::string_view text, const std::string& name) {
  SkipList list;
  std::vector<std::string> lines;
  for (size_t begin = 0, number = 1; begin < text.size(); ++number) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    begin = end + 1;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.front() == '#') continue;
    const std::string where = fmt::format("{}:{}", name, number);
    const size_t space = line.find(' ');
    const std::string_view split = line.substr(0, space);
    require((split == "train" || split == "validation") && space != std::string_view::npos &&
                space + 1 < line.size(),
            "{}: expected `train NAME` or `validation NAME`, got '{}'", where, line.substr(0, 80));
    list.entries.push_back({split == "train" ? Split::kTraining : Split::kValidation,
                            unescaped(line.substr(space + 1), where),
                            {}});
    lines.push_back(line_of(list.entries.back()));  // the same name can be escaped in two ways
  }
  std::sort(lines.begin(), lines.end());
  const auto twice = std::adjacent_find(lines.begin(), lines.end());
  require(twice == lines.end(), "{}: '{}' is listed twice", name, twice == lines.end() ? "" : *twice);
  return list;
}

SkipList SkipList::load(const std::filesystem::path& path) {
  return parse(read_text_file(path, kMaxBytes), path.string());
}

std::string SkipList::to_text() const {
  std::string text = "# Samples that `data.skip` leaves out: tutti data validate --help\n";
  for (const Entry& entry : entries) {
    if (!entry.reason.empty()) text += fmt::format("# {}\n", escaped(entry.reason));
    text += line_of(entry) + "\n";
  }
  return text;
}

std::vector<std::string> SkipList::names(Split split) const {
  std::vector<std::string> all;
  for (const Entry& entry : entries) {
    if (entry.split == split) all.push_back(entry.name);
  }
  std::sort(all.begin(), all.end());
  return all;
}

std::string SkipList::sha256() const {
  std::vector<std::string> lines;
  lines.reserve(entries.size());
  for (const Entry& entry : entries) lines.push_back(line_of(entry) + "\n");
  std::sort(lines.begin(), lines.end());
  return tutti::sha256(fmt::format("{}", fmt::join(lines, "")));
}

}  // namespace tutti
