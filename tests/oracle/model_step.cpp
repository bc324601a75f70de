// Runs a model for tests/oracle/models_oracle.py.
//   oracle_model_step IN OUT
// IN is a safetensors file with weights under the names of Hugging Face or torchvision, `inputs` and
// `targets`; its metadata hold the run file's `model` section as `model` and the dtype as `dtype`. OUT gets
// `logits` (inference), `loss` (mean, training), `gradient NAME` and `weight NAME` for all weights.
#include <tutti/core/checkpoint/safetensors.h>
#include <tutti/core/config/run_file.h>
#include <tutti/models/builder.h>
#include <tutti/models/external_names.h>

#include <iostream>

using namespace tutti;

namespace {

void run(const std::string& in, const std::string& out) {
  ThreadPool pool(2);
  const Stream stream = Stream::inline_on(pool);
  const SafetensorsFile file = SafetensorsFile::open(in);
  ModelConfig config;
  read_text(file.metadata().at("model"), "model", config);
  const DType dtype = dtype_from_name(file.metadata().at("dtype"));
  const std::unique_ptr<Task> task = make_task(config);
  Module& model = task->model();
  const auto groups = make_param_groups(model, {.precision = {dtype, dtype, dtype}}, stream);

  Batch batch;
  std::vector<NamedTensor> weights;
  for (const SafetensorsEntry& entry : file.entries()) {
    if (entry.name == "inputs")
      batch.inputs = file.tensor(entry);
    else if (entry.name == "targets")
      batch.targets = file.tensor(entry);
    else
      weights.push_back({entry.name, file.tensor(entry)});
  }
  import_tensors(model, groups, weights, stream);

  std::vector<std::pair<std::string, Tensor>> results;
  const StepContext inference{.training = false, .samples = batch.samples()};
  Tape forward(stream, inference, Tape::Mode::kInference);
  const bool is_image = is_floating(batch.inputs.dtype());
  const Var inputs(is_image ? batch.inputs.to(dtype, stream) : batch.inputs);
  results.emplace_back("logits", model(forward, inputs).value.to_contiguous(stream));

  Tape tape(stream, {.samples = batch.samples()});
  const Var loss = task->loss(tape, batch, 1 / task->predictions(batch));
  results.emplace_back("loss", loss.value);
  tape.backward(loss);
  for (const NamedTensor& weight : export_tensors(model, groups, stream)) {
    results.emplace_back("weight " + weight.name, weight.tensor);
  }
  for (const ExternalTensor& row : external_names(model)) {
    Tensor gradient = row.parameter->grad.slice(0, row.row_begin, row.row_end);
    if (row.transposed) gradient = gradient.transpose(0, 1);
    results.emplace_back("gradient " + row.name, gradient.to_contiguous(stream));
  }
  write_safetensors(out, results);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: oracle_model_step IN OUT\n";
    return 2;
  }
  try {
    run(argv[1], argv[2]);
  } catch (const std::exception& error) {
    std::cerr << "oracle_model_step: " << error.what() << '\n';
    return 1;
  }
  return 0;
}
