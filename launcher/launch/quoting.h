#pragma once

#include <span>
#include <string>
#include <string_view>

namespace tutti {

/// One of A to Z and a to z, independent of the locale.
bool is_letter(char c);
bool is_digit(char c);

/// Whether a text has nothing but letters, digits and the characters of `others`.
bool is_made_of(std::string_view text, std::string_view others);

inline bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

/// Letters, digits, '.', '_' and '-', at most 253 of them, none of them a leading '-' or '.': safe in
/// remote shells and host files.
bool is_host_name(std::string_view text);

/// A value in a scheduler's directives, such as an account, a partition or a job's name: letters, digits and
/// any of ". _ + @ / : = , -", no '-' first. Nothing in it is special to a shell or a scheduler's parser.
bool is_plain_word(std::string_view text);

/// The name of an environment variable.
bool is_variable_name(std::string_view text);

/// Whether the text holds a byte below 0x20, or 0x7F.
bool has_control_character(std::string_view text);

/// The text without the line breaks at its end: the output of a program, for a message.
std::string_view without_line_end(std::string_view text);

/// A text as one word of a POSIX shell: unchanged if nothing in it is special, else in single quotes. Throws
/// Error if it holds a zero byte, which no argument can.
std::string shell_word(std::string_view text);

/// The words of a command as a line for a POSIX shell.
std::string shell_line(std::span<const std::string> words);

/// shell_line for a script that a scheduler reads: some of them read directives from any line of it, so that
/// words with a line break or another control character are refused with an Error that names `what`.
std::string script_line(std::span<const std::string> words, std::string_view what);

/// A double-quoted YAML (and JSON) string. Throws Error naming `what` if the text is not UTF-8.
std::string yaml_string(std::string_view text, std::string_view what);

}  // namespace tutti
