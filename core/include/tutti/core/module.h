#pragma once

#include <tutti/core/tape.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace tutti {

/// A layer or network: pure math over its inputs and parameters, with named children. It does not depend on
/// ranks.
///
/// A derived class declares parameters and children as members and registers them in its constructor;
/// registration order is the order of the forward pass. Modules must not move: parents store the address of
/// their children.
class Module {
 public:
  Module() = default;
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  /// Runs the before-forward hooks, forward, and the after-forward hooks.
  Var operator()(Tape& tape, const Var& x);

  /// Hooks for parallelism. Called in order of registration.
  struct Hooks {
    std::function<void(Module&)> before_forward;
    std::function<void(Module&)> after_forward;
    std::function<void(Module&)> before_backward;  ///< the gradient of the output is complete
    std::function<void(Module&)> after_backward;   ///< the gradient of the input is complete
  };
  void add_hooks(Hooks hooks) { hooks_.push_back(std::move(hooks)); }
  [[nodiscard]] bool has_hooks() const noexcept { return !hooks_.empty(); }

  /// Path from the root, "blocks.0.attention"; empty for the root. Valid after name_parameters() on the root.
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// A number that distinguishes this call site from others in RandomKey: the hash of its path.
  [[nodiscard]] uint64_t random_stream() const noexcept { return stable_hash(path_); }

  /// All parameters of the tree in registration order, each once even if shared.
  [[nodiscard]] std::vector<Parameter*> parameters();
  /// All modules of the tree, parents before children.
  [[nodiscard]] std::vector<Module*> modules();
  /// Gives every module its path and every parameter its full name. Must be called once on the root when the
  /// tree is complete. A shared parameter is named after its first occurrence. Throws Error on a duplicate
  /// name.
  void name_parameters();

 protected:
  virtual Var forward(Tape& tape, const Var& x) = 0;

  void register_parameter(std::string name, Parameter& parameter);
  void register_module(std::string name, Module& child);

 private:
  void assign_names(const std::string& path, std::vector<const Parameter*>& named);
  void collect(std::vector<Parameter*>& all);

  std::string path_;
  std::vector<std::pair<std::string, Parameter*>> parameters_;
  std::vector<std::pair<std::string, Module*>> children_;
  std::vector<Hooks> hooks_;
};

}  // namespace tutti
