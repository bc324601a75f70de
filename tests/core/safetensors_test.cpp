#include <tutti/core/checkpoint/model_files.h>
#include <tutti/core/checkpoint/safetensors.h>
#include <tutti/core/error.h>
#include <tutti/core/io/sha256.h>

#include <gtest/gtest.h>

#include <sys/stat.h>

#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <random>

#include "tests/temporary_directory.h"

namespace tutti {
namespace {
namespace fs = std::filesystem;

std::string with_header(const std::string& header, size_t data_bytes) {
  std::string file;
  for (int i = 0; i < 8; ++i) file += static_cast<char>((header.size() >> (8 * i)) & 0xff);
  return file + header + std::string(data_bytes, '\1');
}

SafetensorsHeader parse(const std::string& file) {
  return parse_safetensors(std::as_bytes(std::span(file)), "x.safetensors");
}

std::string refusal(const std::string& file) {
  try {
    (void)parse(file);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

class SafetensorsTest : public testing::Test {
 protected:
  void SetUp() override {
    dir = fs::path(testing::TempDir()) / fmt::format("safetensors_test_{}", ::getpid());
    fs::remove_all(dir);
    fs::create_directories(dir);
  }
  void TearDown() override { fs::remove_all(dir); }

  static std::string read(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void write(const std::string& name, const std::string& bytes) const {
    std::ofstream(dir / name, std::ios::binary) << bytes;
  }
  Tensor random_tensor(const Shape& shape, DType dtype) {
    Tensor tensor = Tensor::empty(shape, dtype, stream);
    auto* bytes = static_cast<unsigned char*>(tensor.raw());
    for (int64_t i = 0; i < tensor.bytes(); ++i) bytes[i] = static_cast<unsigned char>(random());
    return tensor;
  }
  static bool same_bits(const Tensor& a, const Tensor& b) {
    return a.dtype() == b.dtype() && a.shape() == b.shape() &&
           (a.bytes() == 0 || std::memcmp(a.raw(), b.raw(), static_cast<size_t>(a.bytes())) == 0);
  }

  uint64_t seed = std::random_device{}();
  testing::ScopedTrace trace{__FILE__, __LINE__, seed};
  std::mt19937_64 random{seed};
  fs::path dir;
  ThreadPool pool{1};
  Stream stream = Stream::inline_on(pool);
};

TEST_F(SafetensorsTest, RoundTripOfEveryDtypeAndShape) {
  std::vector<std::pair<std::string, Tensor>> tensors;
  int number = 0;
  for (const DType dtype : {DType::kUInt8, DType::kBFloat16, DType::kFloat64, DType::kFloat32, DType::kInt32,
                            DType::kFloat16, DType::kInt64}) {
    for (const Shape& shape : {Shape{}, Shape{3}, Shape{5, 7}, Shape{0, 4}, Shape{1, 2, 1, 3, 1, 1, 2, 1}}) {
      tensors.emplace_back(fmt::format("tensor \"{}\"/\xc3\xa9\n", number++), random_tensor(shape, dtype));
    }
  }
  const std::map<std::string, std::string> metadata = {{"format", "pt"},
                                                       {"a \"quoted\" key", "\n\xe2\x82\xac"}};
  write_safetensors(dir / "a.safetensors", tensors, metadata);
  const SafetensorsFile file = SafetensorsFile::open(dir / "a.safetensors");
  EXPECT_EQ(file.metadata(), metadata);
  EXPECT_EQ(file.header().data_begin % 64, 0);
  ASSERT_EQ(file.entries().size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const Tensor got = file.tensor(name);
    EXPECT_TRUE(same_bits(got, tensor)) << name;
    // The writer aligns tensors, so that they are not copied.
    if (got.numel() > 0) {
      EXPECT_EQ(got.raw(), file.bytes(file.at(name)).data());
    }
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(dir), {}), 1) << "a temporary file remains";
}

TEST_F(SafetensorsTest, TensorOutlivesItsFile) {
  const Tensor tensor = random_tensor({1000, 33}, DType::kFloat32);
  write_safetensors(dir / "a.safetensors", {{{"w", tensor}}});
  Tensor got = SafetensorsFile::open(dir / "a.safetensors").tensor("w");
  fs::remove(dir / "a.safetensors");
  EXPECT_TRUE(same_bits(got, tensor));
}

TEST_F(SafetensorsTest, UnsupportedDtypesAreReadAsBytes) {
  SafetensorsWriter writer(dir / "t.safetensors", {{"tokens", "U16", {3}}});
  const std::array<uint16_t, 3> tokens{1, 2, 65535};
  const auto bytes = std::as_bytes(std::span(tokens));
  writer.write(bytes.first(1));
  writer.write(bytes.subspan(1));
  writer.finish();
  EXPECT_EQ(writer.sha256(), sha256(read(dir / "t.safetensors")));
  const SafetensorsFile file = SafetensorsFile::open(dir / "t.safetensors");
  const SafetensorsEntry& entry = file.at("tokens");
  EXPECT_EQ(entry.dtype, "U16");
  EXPECT_TRUE(std::ranges::equal(file.bytes(entry), bytes));
  try {
    (void)file.tensor("tokens");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("tensor 'tokens' has dtype U16"), std::string::npos);
  }
  try {
    (void)file.at("token");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("has no tensor 'token'; did you mean 'tokens'?"),
              std::string::npos);
  }
}

TEST_F(SafetensorsTest, UnalignedDataIsCopied) {
  const std::string header =
      R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}})";
  std::string bytes = with_header(header, 5);
  const float value = 1.25F;
  std::memcpy(bytes.data() + bytes.size() - 4, &value, 4);
  write("u.safetensors", bytes);
  const Tensor b = SafetensorsFile::open(dir / "u.safetensors").tensor("b");
  EXPECT_EQ(reinterpret_cast<uintptr_t>(b.raw()) % 4, 0U);
  EXPECT_EQ(b.item(), 1.25);
}

TEST_F(SafetensorsTest, WriterRefusesInvalidNamesAndDtypes) {
  using Specs = std::vector<SafetensorsWriter::Spec>;
  const fs::path path = dir / "w.safetensors";
  EXPECT_THROW(SafetensorsWriter(path, Specs{{"a", "F31", {1}}}), Error);
  EXPECT_THROW(SafetensorsWriter(path, Specs{{"a", "F32", {1}}, {"a", "F64", {1}}}), Error);
  EXPECT_THROW(SafetensorsWriter(path, Specs{{"__metadata__", "F32", {1}}}), Error);
  EXPECT_THROW(SafetensorsWriter(path, Specs{{"\xff", "F32", {1}}}), Error);
  EXPECT_THROW(SafetensorsWriter(path, Specs{}, {{"k", "\xff"}}), Error);
  SafetensorsWriter writer(path, Specs{{"a", "F32", {1}}});
  const std::array<std::byte, 5> five{};
  EXPECT_THROW(writer.write(five), Error);
  EXPECT_THROW(writer.finish(), Error);
}

TEST_F(SafetensorsTest, ErrorsOfTheSystemAreReported) {
  const auto message = [](auto&& work) -> std::string {
    try {
      work();
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(message([&] {
              OutputFile full(dir / "full");
              const FileSizeLimit limit(3);
              full.write("text");
            }),
            (dir / "full").string() + ": cannot write at byte 3: File too large");
  fs::remove(dir / "full");
  EXPECT_EQ(message([] { OutputFile device("/dev/full"); }),
            "/dev/full: is a device; expected a regular file");
  EXPECT_NE(message([&] { (void)SafetensorsFile::open(dir / "none"); }).find("No such file"),
            std::string::npos);
  EXPECT_NE(message([&] { (void)SafetensorsFile::open(dir); }).find("not a regular file"), std::string::npos);
  write("empty", "");
  EXPECT_NE(message([&] { (void)SafetensorsFile::open(dir / "empty"); }).find("not a safetensors file"),
            std::string::npos);
  // After a failed replacement there is the old file and nothing else.
  write("kept", "old");
  EXPECT_EQ(message([&] {
              replace_file(dir / "kept", [](OutputFile file) {
                file.write("half");
                fail("stop");
              });
            }),
            "stop");
  EXPECT_EQ(read(dir / "kept"), "old");
  EXPECT_EQ(std::distance(fs::directory_iterator(dir), {}), 2);
  write_file_atomically(dir / "kept", "new");
  EXPECT_EQ(read(dir / "kept"), "new");
  ASSERT_EQ(mkfifo((dir / "pipe").c_str(), 0600), 0);  // opening it would block until there is a writer
  for (const auto& read : {std::function<void()>([&] { (void)read_text_file(dir / "pipe", 2); }),
                           std::function<void()>([&] { (void)MappedFile::open(dir / "pipe"); })}) {
    EXPECT_NE(message(read).find("not a regular file"), std::string::npos);
  }
  EXPECT_NE(message([&] { (void)read_text_file(dir / "kept", 2); }).find("expected at most 2"),
            std::string::npos);
}

TEST_F(SafetensorsTest, InvalidHeadersAreRefused) {
  const auto entry = [](const std::string& body) { return "{\"a\":{" + body + "}}"; };
  const std::string good = entry(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])");
  EXPECT_EQ(refusal(with_header(good, 8)), "");
  EXPECT_EQ(refusal(with_header(good + "   ", 8)), "");
  EXPECT_EQ(refusal(with_header("{}", 0)), "");
  EXPECT_EQ(refusal(with_header(R"({"__metadata__":{}})", 0)), "");

  const auto expect = [](const std::string& file, const std::string& part) {
    const std::string message = refusal(file);
    EXPECT_TRUE(message.starts_with("x.safetensors: ") && message.find(part) != std::string::npos)
        << "expected '" << part << "' in '" << message << "'";
  };
  const auto header = [&](const std::string& text, const std::string& part, size_t bytes = 8) {
    expect(with_header(text, bytes), part);
  };
  expect("", "only 0 bytes long");
  expect(std::string(9, '\0'), "only 9 bytes long");
  std::string huge = with_header(good, 8);
  std::memset(huge.data(), 0xff, 8);
  expect(huge, "a header of 18446744073709551615 bytes");
  std::string longer = with_header(good, 8);
  longer[0] = static_cast<char>(longer.size());
  expect(longer, "truncated");
  header(" " + good, "does not start with '{'");
  header("[" + good + "]", "does not start with '{'");
  header(good + std::string(1, '\0'), "zero byte");
  header(good + "x", "not valid JSON at byte");
  header(good.substr(0, good.size() - 1), "not valid JSON at byte");
  header("{\"\xff\":{}}", "not valid JSON at byte");
  header("{'a':1}", "not valid JSON at byte");
  header("{} // c", "not valid JSON", 0);

  const std::string tensor = R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  header("{\"a\":" + tensor + ",\"a\":" + tensor + "}", "has a duplicate name 'a'", 4);
  header(R"({"__metadata__":{"k":"1","k":"2"}})", "has a duplicate metadata key 'k'", 0);
  header(R"({"__metadata__":{},"__metadata__":{}})", "has a duplicate name '__metadata__'", 0);
  header(R"({"__metadata__":{"k":1}})", "has 1 in the wrong position", 0);
  header(R"({"__metadata__":{"k":{}}})", "has an object in the wrong position", 0);
  header(R"({"__metadata__":{"k":null}})", "has null in the wrong position", 0);
  header(R"({"__metadata__":[]})", "has an array in the wrong position", 0);
  header(R"({"a":[]})", "has an array in the wrong position", 0);
  header(R"({"a":true})", "has a boolean in the wrong position", 0);
  header(entry(R"("dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8])"),
         "has a duplicate key 'dtype' for tensor 'a'");
  header(entry(R"("dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1)"),
         "has an unknown key 'x' for tensor 'a'");
  header(entry(R"("dtype":"F31","shape":[2],"data_offsets":[0,8])"),
         "has an unknown dtype 'F31' for tensor 'a'");
  header(entry(R"("dtype":4,"shape":[2],"data_offsets":[0,8])"), "has 4 in the wrong position");
  header(entry(R"("dtype":["F32"],"shape":[2],"data_offsets":[0,8])"), "has an array in the wrong position");
  header(entry(R"("dtype":"F32","data_offsets":[0,8])"), "not all of dtype, shape and data_offsets");
  header(entry(R"("dtype":"F32","shape":[2]})"), "not all of dtype, shape and data_offsets");
  header(entry(R"("dtype":"F32","shape":2,"data_offsets":[0,8])"), "has 2 in the wrong position");
  header(entry(R"("dtype":"F32","shape":[[2]],"data_offsets":[0,8])"), "has an array in the wrong position");
  header(entry(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])"), "has -2 in the wrong position");
  header(entry(R"("dtype":"F32","shape":[2.0],"data_offsets":[0,8])"), "has 2.0 in the wrong position");
  header(entry(R"("dtype":"F32","shape":["2"],"data_offsets":[0,8])"),
         "has the string '2' in the wrong position");
  header(entry(R"("dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,8])"),
         "has a size that is too large");
  header(entry(R"("dtype":"F32","shape":[1,1,1,1,1,1,1,1,2],"data_offsets":[0,8])"), "has more than 8 dims");
  header(entry(R"("dtype":"F32","shape":[2],"data_offsets":[0])"), "fewer than two data_offsets");
  header(entry(R"("dtype":"F32","shape":[2],"data_offsets":[0,8,8])"), "more than two data_offsets");
  // Products that overflow to the right size.
  header(entry(R"("dtype":"F32","shape":[4611686018427387906],"data_offsets":[0,8])"), "spans bytes 0 to 8");
  header(entry(R"("dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,8])"),
         "spans bytes 0 to 8");
  header(entry(R"("dtype":"F32","shape":[4294967296,4294967296,0],"data_offsets":[0,8])"),
         "spans bytes 0 to 8");
  header(entry(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"), "spans bytes 0 to 8");
  header(entry(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])"), "spans bytes 8 to 0");
  header(entry(R"("dtype":"F32","shape":[2],"data_offsets":[1,9])"), "begins at data byte 1", 9);
  header(entry(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])"), "the file has 9 bytes of data", 9);
  header(entry(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])"), "the file has 7 bytes of data", 7);
  const auto two = [](const char* a, const char* b) {
    return fmt::format(R"({{"a":{{"dtype":"U8","shape":[4],"data_offsets":[{}]}},)"
                       R"("b":{{"dtype":"U8","shape":[4],"data_offsets":[{}]}}}})",
                       a, b);
  };
  EXPECT_EQ(refusal(with_header(two("4,8", "0,4"), 8)), "");
  header(two("0,4", "0,4"), "tensor 'b' begins at data byte 0, the one before it ends at 4", 4);
  header(two("0,4", "3,7"), "tensor 'b' begins at data byte 3, the one before it ends at 4", 7);
  header(two("0,4", "5,9"), "tensor 'b' begins at data byte 5, the one before it ends at 4", 9);
  // Nesting of any depth is refused at its first level.
  header("{\"a\":" + std::string(1'000'000, '['), "has an array in the wrong position", 0);
}

TEST_F(SafetensorsTest, TruncationAnywhereIsRefused) {
  write_safetensors(dir / "a.safetensors", {{{"w", random_tensor({5, 3}, DType::kFloat32)},
                                             {"b", random_tensor({3}, DType::kBFloat16)}}});
  const std::string whole = read(dir / "a.safetensors");
  EXPECT_EQ(refusal(whole), "");
  for (size_t length = 0; length < whole.size(); ++length) {
    EXPECT_NE(refusal(whole.substr(0, length)), "") << length;
  }
  EXPECT_NE(refusal(whole + "x"), "");
}

TEST_F(SafetensorsTest, FlippedHeaderBytesNeverReadBeyondTheFile) {
  write_safetensors(dir / "a.safetensors", {{{"w", random_tensor({5, 3}, DType::kFloat32)},
                                             {"b", random_tensor({3}, DType::kBFloat16)}}});
  const std::string whole = read(dir / "a.safetensors");
  const auto data_begin = static_cast<size_t>(parse(whole).data_begin);
  for (size_t i = 0; i < data_begin; ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = whole;
      flipped[i] = static_cast<char>(flipped[i] ^ (1 << bit));
      try {
        const SafetensorsHeader header = parse(flipped);
        // A header with a flipped bit in a name is valid; it must still describe the whole file.
        int64_t end = 0;
        for (const SafetensorsEntry& entry : header.entries) {
          EXPECT_EQ(entry.begin, end);
          EXPECT_EQ(entry.bytes(), numel(entry.shape) * safetensors_element_size(entry.dtype));
          end = entry.end;
        }
        EXPECT_EQ(header.data_begin + end, static_cast<int64_t>(whole.size()));
      } catch (const Error&) {
      }
    }
  }
}

TEST_F(SafetensorsTest, ModelInSeveralFiles) {
  const Tensor a = random_tensor({4, 4}, DType::kFloat32);
  const Tensor b = random_tensor({7}, DType::kBFloat16);
  write_safetensors(dir / "model-00001-of-00002.safetensors", {{{"a", a}}});
  write_safetensors(dir / "model-00002-of-00002.safetensors", {{{"b", b}}});
  const auto index = [&](const std::map<std::string, std::string>& files) {
    write("model.safetensors.index.json", model_index(files, 78));
  };
  const auto message = [&]() -> std::string {
    try {
      (void)ModelFiles::open(dir);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(message().find("contains neither model.safetensors.index.json nor model.safetensors"),
            std::string::npos);
  index({{"a", "model-00001-of-00002.safetensors"}, {"b", "model-00002-of-00002.safetensors"}});
  for (const fs::path& path : {dir, dir / "model.safetensors.index.json"}) {
    const ModelFiles model = ModelFiles::open(path);
    EXPECT_EQ(model.names(), (std::vector<std::string>{"a", "b"}));
    EXPECT_TRUE(same_bits(model.tensor("a"), a));
    EXPECT_TRUE(same_bits(model.tensor("b"), b));
    EXPECT_THROW((void)model.at("c"), Error);
  }
  EXPECT_TRUE(same_bits(ModelFiles::open(dir / "model-00001-of-00002.safetensors").tensor("a"), a));

  // A single file next to an index of others may belong to another model.
  write_safetensors(dir / "model.safetensors", {{{"a", a}}});
  EXPECT_NE(message().find("contains model.safetensors and model.safetensors.index.json"), std::string::npos);
  EXPECT_EQ(ModelFiles::open(dir / "model.safetensors").names().size(), 1U);
  EXPECT_EQ(ModelFiles::open(dir / "model.safetensors.index.json").names().size(), 2U);
  index({{"a", "model.safetensors"}});
  EXPECT_EQ(message(), "");
  fs::remove(dir / "model.safetensors");
  write("adapter_config.json", "{}");
  EXPECT_NE(message().find("contains adapter_config.json"), std::string::npos);
  fs::remove(dir / "adapter_config.json");

  index({{"a", "model-00002-of-00002.safetensors"}, {"b", "model-00002-of-00002.safetensors"}});
  EXPECT_NE(message().find("tensor 'a' is not in model-00002-of-00002.safetensors, contrary to the index"),
            std::string::npos);
  write_safetensors(dir / "model-00002-of-00002.safetensors", {{{"b", b}, {"c", b}}});
  index({{"a", "model-00001-of-00002.safetensors"}, {"b", "model-00002-of-00002.safetensors"}});
  EXPECT_NE(message().find("contains tensor 'c', contrary to the index"), std::string::npos);
  for (const char* elsewhere : {"../x.safetensors", "/etc/passwd", "", ".", ".hidden", "a/b"}) {
    index({{"a", elsewhere}});
    EXPECT_NE(message().find("which is not a file name"), std::string::npos) << elsewhere;
  }
  index({{"a", "missing.safetensors"}});
  EXPECT_NE(message().find("No such file"), std::string::npos);
  for (const char* text : {"", "[]", "{}", "{\"weight_map\":3}", "{\"weight_map\":{\"a\":3}}",
                           "{\"weight_map\"", "{\"weight_map\":{\"a\":\"x\",\"a\":\"y\"}}"}) {
    write("model.safetensors.index.json", text);
    EXPECT_NE(message(), "") << text;
  }
}

TEST_F(SafetensorsTest, Sha256OfKnownTexts) {
  // FIPS 180-4 examples.
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  Sha256 pieces;
  for (int i = 0; i < 1000; ++i) pieces.update(std::string(1000, 'a'));
  EXPECT_EQ(pieces.finish(), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_F(SafetensorsTest, ParamsDigestDependsOnEverythingExceptTheOrder) {
  using List = std::vector<std::pair<std::string, Tensor>>;
  const Tensor a = random_tensor({2, 3}, DType::kFloat32);
  const Tensor b = random_tensor({4}, DType::kBFloat16);
  const std::string digest = params_sha256(List{{"a", a}, {"b", b}});
  EXPECT_EQ(digest, params_sha256(List{{"b", b}, {"a", a}}));
  EXPECT_NE(digest, params_sha256(List{{"a", a}}));
  EXPECT_NE(digest, params_sha256(List{{"a", a}, {"c", b}}));
  EXPECT_NE(digest, params_sha256(List{{"a", a.view({3, 2})}, {"b", b}}));
  const Tensor changed = a.clone(stream);
  static_cast<unsigned char*>(changed.raw())[7] ^= 1;
  EXPECT_NE(digest, params_sha256(List{{"a", changed}, {"b", b}}));
  EXPECT_THROW((void)params_sha256(List{{"a", a}, {"a", a}}), Error);
  EXPECT_THROW((void)params_sha256(List{{"a", a.transpose(0, 1)}}), Error);
}

}  // namespace
}  // namespace tutti
