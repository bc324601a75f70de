// Runs a folder of transformers for tests/oracle/transformers_oracle.py.
//   oracle_hugging_face_step FOLDER IN OUT EXPORT
// FOLDER contains config.json and safetensors; IN contains `inputs` and `targets`, both (B, T) int32. OUT
// gets `logits` (inference), `loss` (mean, training), `gradient NAME` of all weights, and `greedy`, the 40
// tokens that follow the first 5 of the first row. The directory EXPORT gets the model's config.json and
// model.safetensors.
#include <tutti/core/checkpoint/safetensors.h>
#include <tutti/core/io/file.h>
#include <tutti/models/builder.h>
#include <tutti/models/external_names.h>
#include <tutti/models/generate.h>
#include <tutti/models/hugging_face/config.h>

#include <iostream>

using namespace tutti;

namespace {

constexpr int64_t kGreedy = 40;

void run(const std::filesystem::path& folder, const std::string& in, const std::string& out,
         const std::filesystem::path& exported) {
  ThreadPool pool(2);
  const Stream stream = Stream::inline_on(pool);
  const auto config = hugging_face_config_of(folder);
  require(config.has_value(), "{}: no config.json", folder.string());
  ModelConfig settings;
  settings.gpt = config->gpt;
  const std::unique_ptr<Task> task = make_task(settings);
  auto& model = dynamic_cast<Gpt&>(task->model());
  const auto groups = make_param_groups(model, {}, stream);
  load_weights(model, groups, ModelFiles::open(folder), stream);

  const SafetensorsFile file = SafetensorsFile::open(in);
  const Batch batch{.inputs = file.tensor("inputs"), .targets = file.tensor("targets")};
  std::vector<std::pair<std::string, Tensor>> results;
  Tape forward(stream, {.training = false, .samples = batch.samples()}, Tape::Mode::kInference);
  results.emplace_back("logits", model(forward, Var(batch.inputs)).value.to_contiguous(stream));
  Tape tape(stream, {.samples = batch.samples()});
  const Var loss = task->loss(tape, batch, 1 / task->predictions(batch));
  results.emplace_back("loss", loss.value);
  tape.backward(loss);
  for (const ExternalTensor& row : external_names(model)) {
    Tensor gradient = row.parameter->grad.slice(0, row.row_begin, row.row_end);
    if (row.transposed) gradient = gradient.transpose(0, 1);
    results.emplace_back("gradient " + row.name, gradient.to_contiguous(stream));
  }
  const auto prompt = batch.inputs.span<int32_t>().first(5);
  const std::vector<int32_t> greedy = generate(model, prompt, {.tokens = kGreedy, .temperature = 0}, stream);
  results.emplace_back("greedy", Tensor::from(greedy, {kGreedy}, stream));
  write_safetensors(out, results);

  std::vector<std::pair<std::string, Tensor>> weights;
  for (const NamedTensor& weight : export_tensors(model, groups, stream)) {
    weights.emplace_back(weight.name, weight.tensor);
  }
  write_safetensors(exported / "model.safetensors", weights, {{"format", "pt"}});
  write_file_atomically(exported / "config.json", hugging_face_config(model.config(), {}));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::cerr << "usage: oracle_hugging_face_step FOLDER IN OUT EXPORT\n";
    return 2;
  }
  try {
    run(argv[1], argv[2], argv[3], argv[4]);
  } catch (const std::exception& error) {
    std::cerr << "oracle_hugging_face_step: " << error.what() << '\n';
    return 1;
  }
  return 0;
}
