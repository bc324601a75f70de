#pragma once

#include <string>

namespace CLI {
class App;
}

namespace tutti {

/// Scripts that complete commands and options in a shell, made from the tree of commands itself.
std::string bash_completion(const CLI::App& root);
std::string zsh_completion(const CLI::App& root);
std::string fish_completion(const CLI::App& root);

}  // namespace tutti
