#pragma once

#include <tutti/core/config/fields.h>
#include <tutti/core/config/node.h>

#include <string>
#include <string_view>

namespace tutti {

/// A text truncated to about 60 characters, for messages.
std::string shortened(std::string_view text);

/// Describes a node's value for messages: "'many'", "a list", "nothing".
std::string value_text(const ConfigNode& node);

/// Converts the node to the field's type and assigns it. Returns "" or an error ("expected an integer, at
/// least 1; got 'many'"); on error the member is not changed.
std::string assign(const ConfigNode& node, const Field& field);

/// The error in the member's value ("expected one of adamw, sgd, got 'adam'"); "" if it is valid.
std::string check_value(const Field& field);

/// Expands a leading `~` or `~user` of a path to the home directory. Returns "" or an error; a zero byte is
/// one.
std::string expand_home(const FieldTarget& path);

/// "integer", "number", "true or false", "list of numbers", ...
std::string_view type_text(const FieldTarget& target);

/// The member's value as YAML that `assign` reads back. Throws Error naming `path` if there is none.
std::string yaml_text(const FieldTarget& target, std::string_view path);

}  // namespace tutti
