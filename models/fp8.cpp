#include <tutti/models/fp8.h>

namespace tutti {
namespace {

/// Zero means unknown.
Parameter describe_range() {
  Parameter range;
  range.shape = {1};
  range.init = Init::constant(0);
  range.role = Role::kStatistic;
  range.keeps_latest = true;
  return range;
}

}  // namespace

Fp8State::Fp8State() : input(describe_range()), weight(describe_range()), gradient(describe_range()) {}

Fp8Ranges Fp8State::on(Tape& tape) {
  return {.x = tape.leaf(input), .w = tape.leaf(weight), .dy = tape.leaf(gradient)};
}

void use_fp8(Gpt& model, Fp8Layers layers) {
  for (Module* module : model.modules()) {
    auto* const layer = dynamic_cast<Linear*>(module);
    if (layer != nullptr && layer->weight.role != Role::kHead) layer->attach(std::make_unique<Fp8State>());
  }
  if (layers == Fp8Layers::kLinearAndHead) model.attach_to_head(std::make_unique<Fp8State>());
  model.name_parameters();
}

}  // namespace tutti
