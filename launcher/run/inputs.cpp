#include "launcher/run/inputs.h"

#include <tutti/core/error.h>

namespace tutti {

Inputs open_inputs(RunSettings& settings) {
  Inputs inputs;
  inputs.training = open_dataset(settings.data, Split::kTraining);
  inputs.validation = open_dataset(settings.data, Split::kValidation);
  fit_to_data(settings.model, {inputs.training->sample_shape(), inputs.training->classes()});
  if (inputs.validation) {
    require(inputs.validation->classes() <= inputs.training->classes(),
            "the validation data has {} classes, the training data in {} has {}",
            inputs.validation->classes(), settings.data.path, inputs.training->classes());
  }
  inputs.task = make_task(settings.model);
  return inputs;
}

}  // namespace tutti
