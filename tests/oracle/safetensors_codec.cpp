// Reads and writes safetensors files for tests/oracle/safetensors_oracle.py.
//   oracle_safetensors_codec copy IN OUT     writes all tensors and metadata of IN to OUT
//   oracle_safetensors_codec check           for each path on stdin prints "ok" or "refused: why"
//   oracle_safetensors_codec model DIR OUT   copies a model, in one file or several with an index, to one
//   file oracle_safetensors_codec save DIR N      saves a checkpoint of N small tensors
#include <tutti/core/checkpoint/checkpoint.h>
#include <tutti/core/checkpoint/model_files.h>
#include <tutti/core/checkpoint/safetensors.h>
#include <tutti/core/error.h>

#include <cstdlib>
#include <iostream>

using namespace tutti;

namespace {

void copy_file(const std::string& in, const std::string& out) {
  const SafetensorsFile file = SafetensorsFile::open(in);
  std::vector<SafetensorsWriter::Spec> specs;
  for (const SafetensorsEntry& entry : file.entries())
    specs.push_back({entry.name, entry.dtype, entry.shape});
  SafetensorsWriter writer(out, std::move(specs), file.metadata());
  for (const SafetensorsEntry& entry : writer.order()) writer.write(file.bytes(file.at(entry.name)));
  writer.finish();
}

void copy_model(const std::string& in, const std::string& out) {
  const ModelFiles model = ModelFiles::open(in);
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const std::string& name : model.names()) tensors.emplace_back(name, model.tensor(name));
  write_safetensors(out, tensors);
}

void check_files() {
  for (std::string path; std::getline(std::cin, path);) {
    try {
      (void)SafetensorsFile::open(path);
      std::cout << "ok\n";
    } catch (const Error& error) {
      std::cout << "refused: " << error.what() << "\n";
    }
  }
}

void save_checkpoint(const std::string& dir, int64_t count) {
  ThreadPool pool(1);
  const Stream stream = Stream::inline_on(pool);
  TrainingState state;
  for (int64_t i = 0; i < count; ++i) {
    state.model.push_back(
        StateTensor::whole(fmt::format("w{}", i), Tensor::full({i, 3}, double(i), DType::kBFloat16, stream)));
  }
  SinglePeer alone;
  CheckpointConfig config;
  config.dir = dir;
  const CheckpointReport report = Checkpoints(config, alone, nullptr).save(state, {.step = 1});
  require(report.error.empty(), "{}", report.error);
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  try {
    if (arguments.size() == 3 && arguments[0] == "copy") {
      copy_file(arguments[1], arguments[2]);
    } else if (arguments.size() == 3 && arguments[0] == "model") {
      copy_model(arguments[1], arguments[2]);
    } else if (arguments.size() == 3 && arguments[0] == "save") {
      save_checkpoint(arguments[1], std::atoll(arguments[2].c_str()));
    } else if (arguments.size() == 1 && arguments[0] == "check") {
      check_files();
    } else {
      fail("usage: safetensors_codec copy IN OUT | model DIR OUT | save DIR N | check");
    }
  } catch (const Error& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
  return 0;
}
