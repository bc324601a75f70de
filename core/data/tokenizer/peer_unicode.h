#pragma once

namespace tutti {

/// `tokenizers` has tables of several Unicode versions, some of them older than those of utf8proc. These
/// functions return whether a property of a character differs, so that ids are the same: compared with
/// tokenizers 0.23 on all characters of Unicode 15.
bool peer_differs_in_form(char32_t code);         ///< it has neither decomposition nor combining class there
bool peer_differs_in_punctuation(char32_t code);  ///< P
bool peer_differs_in_nonspacing(char32_t code);   ///< Mn
bool peer_differs_in_marks(char32_t code);        ///< M
bool peer_differs_in_format(char32_t code);       ///< Cf

}  // namespace tutti
