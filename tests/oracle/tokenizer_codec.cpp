// The other side of tokenizer_oracle.py: trains a tokenizer, or encodes texts that come on standard input.
//   oracle_tokenizer_codec train VOCABULARY OUT.json < TEXT
//   oracle_tokenizer_codec encode TOKENIZER.json   < (length as uint32, bytes)* > (count as uint32, int32
//   ids)*
#include <tutti/core/checkpoint/file.h>
#include <tutti/core/data/bpe_train.h>
#include <tutti/core/error.h>

#include <cstdio>
#include <cstring>

namespace tutti {
namespace {

std::string read_all() {
  std::string text;
  char buffer[1 << 16];
  for (size_t n = fread(buffer, 1, sizeof buffer, stdin); n > 0; n = fread(buffer, 1, sizeof buffer, stdin)) {
    text.append(buffer, n);
  }
  return text;
}

void train(int64_t vocabulary, const std::string& path) {
  const std::string text = read_all();
  const std::vector<std::string_view> texts{text};
  ThreadPool pool(1);
  train_bpe(texts, {.vocabulary = vocabulary}, pool).save(path);
}

void encode(const std::string& path) {
  TokenEncoder encoder(Tokenizer::load(path));
  const std::string input = read_all();
  for (size_t at = 0; at < input.size();) {
    uint32_t length = 0;
    require(input.size() - at >= sizeof length, "codec: half a length at byte {}", at);
    std::memcpy(&length, input.data() + at, sizeof length);
    at += sizeof length;
    require(input.size() - at >= length, "codec: half a text at byte {}", at);
    std::vector<int32_t> ids;
    encoder.encode(std::string_view(input).substr(at, length), ids);
    at += length;
    const auto count = static_cast<uint32_t>(ids.size());
    require(fwrite(&count, sizeof count, 1, stdout) == 1 &&
                fwrite(ids.data(), sizeof(int32_t), ids.size(), stdout) == ids.size(),
            "codec: cannot write");
  }
}

}  // namespace
}  // namespace tutti

int main(int argc, char** argv) {
  try {
    const std::string mode = argc > 1 ? argv[1] : "";
    if (mode == "train" && argc == 4) {
      tutti::train(std::atoll(argv[2]), argv[3]);
    } else if (mode == "encode" && argc == 3) {
      tutti::encode(argv[2]);
    } else {
      tutti::fail("usage: oracle_tokenizer_codec train VOCABULARY OUT.json | encode TOKENIZER.json");
    }
    return 0;
  } catch (const std::exception& error) {
    fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
