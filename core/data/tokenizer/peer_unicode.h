#pragma once

namespace tutti {

/// `tokenizers` has tables of several Unicode versions, some of them old, where we have the newer ones of
/// utf8proc. These say of a character whether its tables know that property, so that ids are the same:
/// compared with tokenizers 0.23 on all characters of Unicode 15.
bool peer_knows_form(char32_t code);         ///< decomposition and combining class
bool peer_knows_punctuation(char32_t code);  ///< P
bool peer_knows_nonspacing(char32_t code);   ///< Mn
bool peer_knows_mark(char32_t code);         ///< M
bool peer_knows_format(char32_t code);       ///< Cf

}  // namespace tutti
