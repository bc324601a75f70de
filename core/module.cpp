#include <tutti/core/memory/owner.h>
#include <tutti/core/module.h>

#include <algorithm>
#include <unordered_set>

namespace tutti {

Var Module::operator()(Tape& tape, const Var& x) {
  const MemoryOwner owner(path_);
  Var input = x;
  for (auto& hooks : hooks_) {
    if (hooks.before_forward) hooks.before_forward(*this);
    if (hooks.after_backward && input.needs_grad()) {
      input = tape.on_backward(input, [this, &hooks] { hooks.after_backward(*this); });
    }
  }
  Var y = forward(tape, input);
  for (auto& hooks : hooks_) {
    if (hooks.after_forward) hooks.after_forward(*this);
    if (hooks.before_backward && y.needs_grad()) {
      y = tape.on_backward(y, [this, &hooks] { hooks.before_backward(*this); });
    }
  }
  return y;
}

void Module::register_parameter(std::string name, Parameter& parameter) {
  parameters_.emplace_back(std::move(name), &parameter);
}

void Module::register_module(std::string name, Module& child) {
  children_.emplace_back(std::move(name), &child);
}

void Module::collect(std::vector<Parameter*>& all) {
  for (auto& [name, parameter] : parameters_) {
    if (std::find(all.begin(), all.end(), parameter) == all.end()) all.push_back(parameter);
  }
  for (auto& [name, child] : children_) child->collect(all);
}

std::vector<Parameter*> Module::parameters() {
  std::vector<Parameter*> all;
  collect(all);
  return all;
}

std::vector<Module*> Module::modules() {
  std::vector<Module*> all{this};
  for (auto& [name, child] : children_) {
    const auto below = child->modules();
    all.insert(all.end(), below.begin(), below.end());
  }
  return all;
}

void Module::assign_names(const std::string& path, std::vector<const Parameter*>& named) {
  path_ = path;
  const std::string prefix = path.empty() ? "" : path + ".";
  for (auto& [name, parameter] : parameters_) {
    if (std::find(named.begin(), named.end(), parameter) != named.end()) continue;
    parameter->name = prefix + name;
    named.push_back(parameter);
  }
  for (auto& [name, child] : children_) child->assign_names(prefix + name, named);
}

void Module::name_parameters() {
  std::vector<const Parameter*> named;
  assign_names("", named);
  std::unordered_set<std::string> names;
  for (const Parameter* parameter : named) {
    require(names.insert(parameter->name).second, "module: duplicate parameter name '{}'", parameter->name);
  }
}

}  // namespace tutti
