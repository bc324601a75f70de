// The program for tokenizer_oracle.py: trains a tokenizer, or encodes texts from standard input.
//   oracle_tokenizer_codec train VOCABULARY OUT.json < TEXT
//   oracle_tokenizer_codec encode TOKENIZER < (length as uint32, bytes)* > answers
// An answer is (count as uint32, int32 ids)* and (length as uint32, bytes): the ids, those that the
// post-processor adds before and after them, those of the sections of the document, and the text of the ids.

#include <tutti/core/data/bpe_train.h>
#include <tutti/core/error.h>
#include <tutti/core/io/file.h>

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

void put(const void* data, size_t size) {
  require(fwrite(data, 1, size, stdout) == size, "codec: cannot write");
}

void put(std::span<const int32_t> ids) {
  const auto count = static_cast<uint32_t>(ids.size());
  put(&count, sizeof count);
  put(ids.data(), ids.size_bytes());
}

void encode(const std::string& path) {
  const Tokenizer tokenizer = Tokenizer::load(path);
  TokenEncoder encoder(tokenizer);
  const std::string input = read_all();
  for (size_t at = 0; at < input.size();) {
    uint32_t length = 0;
    require(input.size() - at >= sizeof length, "codec: truncated length at byte {}", at);
    std::memcpy(&length, input.data() + at, sizeof length);
    at += sizeof length;
    require(input.size() - at >= length, "codec: truncated text at byte {}", at);
    const std::string_view text = std::string_view(input).substr(at, length);
    at += length;
    std::vector<int32_t> ids, of_sections;
    encoder.encode(text, ids);
    for (const TextSection& section : tokenizer.sections(text, 7)) encoder.encode(section, of_sections);
    const std::string back = tokenizer.decode(ids);
    TokenDecoder decoder(tokenizer);
    std::string streamed;
    for (const int32_t id : ids) streamed += decoder.add(id);
    streamed += decoder.finish();
    require(streamed == back, "codec: decoded per token the text is '{}', decoded at once '{}'", streamed,
            back);
    put(ids);
    put(tokenizer.before());
    put(tokenizer.behind());
    put(of_sections);
    const auto bytes = static_cast<uint32_t>(back.size());
    put(&bytes, sizeof bytes);
    put(back.data(), back.size());
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
