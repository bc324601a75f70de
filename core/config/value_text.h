#pragma once

#include <tutti/core/config/fields.h>
#include <tutti/core/config/node.h>

#include <string>
#include <string_view>

namespace tutti {

/// At most some 60 characters of a text, for messages.
std::string shortened(std::string_view text);

/// What stands at a node, for messages: "'many'", "a list", "nothing".
std::string value_text(const ConfigNode& node);

/// Converts the node to the field's type and assigns it. Returns "" or what is wrong ("expected an integer,
/// at least 1; got 'many'"), and then leaves the member as it was.
std::string assign(const ConfigNode& node, const Field& field);

/// What is wrong with the member's value as it is ("expected one of adamw, sgd, got 'adam'"); "" if nothing.
std::string check_value(const Field& field);

/// Replaces a leading `~` or `~user` of a path by that home directory. Returns "" or what is wrong, which a
/// zero byte in it is too.
std::string expand_home(const FieldTarget& path);

/// "integer", "number", "true or false", "list of numbers", ...
std::string_view type_text(const FieldTarget& target);

/// The member's value as YAML that `assign` reads back. Throws Error naming `path` if there is none.
std::string yaml_text(const FieldTarget& target, std::string_view path);

}  // namespace tutti
