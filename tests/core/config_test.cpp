#include "tests/core/config_settings.h"

#include "core/config/nearest.h"
#include "core/config/utf8.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <limits>
#include <random>

namespace tutti::test {
namespace {

TEST(Config, ReadsEveryType) {
  const Settings s = read(R"(# a comment
name: "two words"
shuffle: false
tags: [a, 'b c', 3]
sizes:
  - 4
  - +5
comment: null
seed: 7
flag: True
dtype: bf16
model:
  layers: 12
  dropout: .5
  dtype: fp64
optimizer: {learning_rate: 1e-3, betas: [0.8, 1], clip_norm: ~, algorithm: muon}
)");
  EXPECT_EQ(s.name, "two words");
  EXPECT_FALSE(s.shuffle);
  EXPECT_EQ(s.tags, (std::vector<std::string>{"a", "b c", "3"}));
  EXPECT_EQ(s.sizes, (std::vector<int64_t>{4, 5}));
  EXPECT_FALSE(s.comment.has_value());
  EXPECT_EQ(s.seed, 7);
  EXPECT_EQ(s.flag, true);
  EXPECT_EQ(s.dtype, DType::kBFloat16);
  EXPECT_EQ(s.model.layers, 12);
  EXPECT_EQ(s.model.heads, 6);
  EXPECT_EQ(s.model.dropout, 0.5);
  EXPECT_EQ(s.model.dtype, DType::kFloat64);
  EXPECT_EQ(s.optimizer.learning_rate, 1e-3);
  EXPECT_EQ(s.optimizer.betas, (std::vector<double>{0.8, 1}));
  EXPECT_FALSE(s.optimizer.clip_norm.has_value());
  EXPECT_EQ(s.optimizer.algorithm, "muon");
}

struct Refused {
  const char* text;
  const char* message;
};

class ConfigRefusal : public testing::TestWithParam<Refused> {};

TEST_P(ConfigRefusal, NamesLocationKeyAndExpectedValue) {
  EXPECT_EQ(refusal(GetParam().text), GetParam().message);
}

const std::vector<Refused> kValues = {
    {"name: x\nmodel:\n  layers: many\n",
     "run.yaml:3: model.layers: expected an integer, at least 1, got 'many'"},
    {"model: {layers: 0}", "run.yaml:1: model.layers: expected an integer, at least 1, got '0'"},
    {"model: {layers: 1e3}",
     "run.yaml:1: model.layers: expected an integer, at least 1, got '1e3'; write 1000"},
    {"model: {layers: 1.5}", "run.yaml:1: model.layers: expected an integer, at least 1, got '1.5'"},
    {"model: {layers: '6'}", "run.yaml:1: model.layers: expected an integer, at least 1, got the text '6'"},
    {"model: {layers: 99999999999999999999}",
     "run.yaml:1: model.layers: expected an integer, at least 1, got '99999999999999999999'"},
    {"model: {layers: [1]}", "run.yaml:1: model.layers: expected an integer, at least 1, got a list"},
    {"model: {layers: }", "run.yaml:1: model.layers: expected an integer, at least 1, got nothing"},
    {"model: {dropout: 1}", "run.yaml:1: model.dropout: expected a number, at least 0, below 1, got '1'"},
    {"model: {dropout: nan}", "run.yaml:1: model.dropout: expected a number, at least 0, below 1, got 'nan'"},
    {"model: {dropout: .inf}",
     "run.yaml:1: model.dropout: expected a number, at least 0, below 1, got '.inf'"},
    {"model: {dropout: 1e999}",
     "run.yaml:1: model.dropout: expected a number, at least 0, below 1, got '1e999'"},
    {"model: {dtype: float16}",
     "run.yaml:1: model.dtype: expected one of fp32, bf16, fp16, fp64, int32, int64, uint8, got "
     "'float16'"},
    {"shuffle: yes", "run.yaml:1: shuffle: expected true or false, got 'yes'"},
    {"shuffle: 'true'", "run.yaml:1: shuffle: expected true or false, got the text 'true'"},
    {"name: ''", "run.yaml:1: name: expected text, not empty, got the text ''"},
    {"name:", "run.yaml:1: name: expected text, not empty, got nothing"},
    {"name: {a: 1}", "run.yaml:1: name: expected text, not empty, got a section"},
    {"sizes: 3", "run.yaml:1: sizes: expected a list of integers, at least 0, got '3'"},
    {"sizes: [1, -2]", "run.yaml:1: sizes: element 2: expected an integer, at least 0, got '-2'"},
    {"optimizer:\n  betas: [0.9]",
     "run.yaml:2: optimizer.betas: expected a list of numbers, 2 values, between 0 and 1, got 1 "
     "values"},
    {"optimizer: {betas: [0.9, 2]}",
     "run.yaml:1: optimizer.betas: element 2: expected a number, 2 values, between 0 and 1, got '2'"},
    {"optimizer: {algorithm: adam}",
     "run.yaml:1: optimizer.algorithm: expected one of sgd, adamw, muon, got 'adam'; did you mean "
     "'adamw'?"},
    {"optimizer: adamw", "run.yaml:1: optimizer: expected a section of keys, got 'adamw'"},
    {"optimizer: [1]", "run.yaml:1: optimizer: expected a section of keys, got a list"}};
INSTANTIATE_TEST_SUITE_P(Values, ConfigRefusal, testing::ValuesIn(kValues));

const std::vector<Refused> kKeys = {
    {"optimizer:\n  learnig_rate: 1\n",
     "run.yaml:2: optimizer.learnig_rate: unknown key; did you mean 'learning_rate'?"},
    {"optimizer:\n  learning-rate: 1\n",
     "run.yaml:2: optimizer.learning-rate: unknown key; did you mean 'learning_rate'?"},
    {"\nlearning_rate: 1\n",
     "run.yaml:2: learning_rate: unknown key; did you mean 'optimizer.learning_rate'?"},
    {"optimizer: {q: 1}",
     "run.yaml:1: optimizer.q: unknown key; the keys here are algorithm, learning_rate, betas, "
     "clip_norm"},
    {"<<: {a: 1}",
     "run.yaml:1: <<: unknown key; the keys here are name, shuffle, tags, sizes, comment, seed, "
     "flag, dtype, model, optimizer"},
    {"name: a\nshuffle: true\nname: b\n", "run.yaml:3: duplicate key 'name', first at run.yaml:1"},
    {"model:\n  layers: 1\n  heads: 2\n  layers: 1\n",
     "run.yaml:4: duplicate key 'layers', first at run.yaml:2"},
    {"? [a]\n: 1\n", "run.yaml:1: a key must be plain text"},

    {"~: 1\n", "run.yaml:1: a key is missing"}};
INSTANTIATE_TEST_SUITE_P(Keys, ConfigRefusal, testing::ValuesIn(kKeys));

const std::vector<Refused> kDocuments = {
    {"", "run.yaml: the run file is empty"},
    {"# only a comment\n", "run.yaml: the run file is empty"},
    {"just text", "run.yaml:1: expected keys and values (key: value), got 'just text'"},
    {"- 1\n", "run.yaml:1: expected keys and values (key: value), got a list"},
    {"name: a\n---\nname: b\n", "run.yaml: contains a second YAML document; expected one"},
    {"name: &x a\n", "run.yaml:1: anchors and aliases are not allowed in run files"},
    {"name: *x\n", "run.yaml:1: anchors and aliases are not allowed in run files"},
    {"model: !!map {}\n", "run.yaml:1: tags are not allowed in run files"},
    {"name: a\ncomment: b: c\n", "run.yaml:2: not valid YAML: illegal map value"},
    // After a missing quote or colon, the following lines would be part of the value.
    {"shuffle: true\nname: \"x\nsizes: [1]\n",
     "run.yaml:2: the quote \" that begins here is not closed on the same line"},
    {"name: \"x\ncomment: \"y\"\n",
     "run.yaml:1: the quote \" that begins here is not closed on the same line"},
    {"name: 'x\nsizes: [1]\n", "run.yaml:1: the quote ' that begins here is not closed on the same line"},
    {"name: 'it''s\ncomment: it''s'\n",
     "run.yaml:1: the quote ' that begins here is not closed on the same line"},
    {"name: \"a\\\"\nsizes: [1]\n",
     "run.yaml:1: the quote \" that begins here is not closed on the same line"},
    {"name: \"a\\\n  b\"\n", "run.yaml:1: the quote \" that begins here is not closed on the same line"},
    {"\"na\nme\": 1\n", "run.yaml:2: not valid YAML: illegal map value"},
    {"tags: [a, \"b\n  c\", d]\n",
     "run.yaml:1: the quote \" that begins here is not closed on the same line"},
    {"name: x\n  shuffle\n",
     "run.yaml:1: the value continues on the next line; write it on one line, or use `|`"},
    {"name: x\n...\nshuffle: false\n",
     "run.yaml:3: text after the end of the document (`...`) would be ignored; remove `...` or the text"},
    {"name: x\n... # end\n\n  @\n",
     "run.yaml:4: text after the end of the document (`...`) would be ignored; remove `...` or the text"},
    {"name: x\n... shuffle: false\n",
     "run.yaml:2: text after the end of the document (`...`) would be ignored; remove `...` or the text"},
    {"shuffle: true\nname: caf\xe9\n",
     "run.yaml:2: byte 0xe9 is not valid UTF-8; expected a run file in UTF-8"},
    {"\xff\xfen\0a\0", "run.yaml:1: byte 0xff is not valid UTF-8; expected a run file in UTF-8"},
    {"name: a\n\x04shuffle: false\n",
     "run.yaml:2: control character 0x04; write \"\\x04\" in double quotes"}};
INSTANTIATE_TEST_SUITE_P(Documents, ConfigRefusal, testing::ValuesIn(kDocuments));

const std::vector<Refused> kRules = {
    {"model:\n  width: 100\n  heads: 3\n",
     "run.yaml:2: model.width: must be a multiple of heads (3), got '100'"},
    {"model:\n  heads: 5\n",
     "run.yaml: model.width (not set, so its default): must be a multiple of heads (5)"},
    // Reported first: a wrong key may be the reason why the rule is violated.
    {"model:\n  widht: 390\n  heads: 5\n", "run.yaml:2: model.widht: unknown key; did you mean 'width'?"}};
INSTANTIATE_TEST_SUITE_P(Rules, ConfigRefusal, testing::ValuesIn(kRules));

TEST(Config, ListsAllProblems) {
  EXPECT_EQ(refusal("nam: a\nshuffle: 3\nmodel: {layers: x}\n"),
            "run.yaml:1: nam: unknown key; did you mean 'name'?\n"
            "run.yaml:2: shuffle: expected true or false, got '3'\n"
            "run.yaml:3: model.layers: expected an integer, at least 1, got 'x'");
  std::string many;
  for (int i = 0; i < 50; ++i) many += fmt::format("zzzzzzzzzzzzzzz{}: 1\n", i);
  const std::string message = refusal(many);
  EXPECT_EQ(std::count(message.begin(), message.end(), '\n'), 10);
  EXPECT_TRUE(message.ends_with("run.yaml: and 40 more")) << message;
}

TEST(Config, KeepsSettingsOnError) {
  Settings settings;
  EXPECT_THROW(read_text("name: changed\nmodel: {layers: -1}\n", "run.yaml", settings), Error);
  EXPECT_EQ(settings.name, "run");
}

TEST(Config, OverridesApplyWithTheSameChecks) {
  const Settings s =
      read("model: {layers: 2}\noptimizer: null\n",
           {"model.layers=3", "optimizer.betas=[0.1, 0.2]", "optimizer.clip_norm=null", "name=a: b",
            "comment=[x", "tags=[x, y]", "optimizer.learning_rate=1e-2", "seed=-3"});
  EXPECT_EQ(s.model.layers, 3);
  EXPECT_EQ(s.optimizer.betas, (std::vector<double>{0.1, 0.2}));
  EXPECT_FALSE(s.optimizer.clip_norm.has_value());
  EXPECT_EQ(s.name, "a: b");
  EXPECT_EQ(s.comment, "[x");
  EXPECT_EQ(s.tags, (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(s.optimizer.learning_rate, 1e-2);
  EXPECT_EQ(s.seed, -3);
  EXPECT_EQ(read("name: x", {"name=1=2"}).name, "1=2");
  EXPECT_EQ(read("name: x", {"name='q'"}).name, "q");
  EXPECT_EQ(read("name: x", {"name=null"}).name, "null");

  const auto set_refusal = [](const char* assignment) { return refusal("model: {layers: 2}", {assignment}); };
  EXPECT_EQ(set_refusal("model.layers=x"),
            "--set model.layers=x: model.layers: expected an integer, at least 1, got 'x'");
  EXPECT_EQ(set_refusal("model.layer=4"),
            "--set model.layer=4: model.layer: unknown key; did you mean 'layers'?");
  EXPECT_EQ(set_refusal("modle.layers=4"), "--set modle.layers=4: modle: unknown key; did you mean 'model'?");
  EXPECT_EQ(set_refusal("model.layers"), "--set model.layers: expected key=value");
  EXPECT_EQ(set_refusal("model..layers=1"),
            "--set model..layers=1: the key has an empty part; expected section.key=value");
  EXPECT_EQ(set_refusal("=1"), "--set =1: the key has an empty part; expected section.key=value");
  EXPECT_EQ(set_refusal("model.layers.deep=1"),
            "--set model.layers.deep=1: 'layers' is not a section: it has a value at run.yaml:1");
  EXPECT_EQ(set_refusal("model.heads=[1"),
            "--set model.heads=[1: model.heads: expected an integer, at least 1, got the text '[1'");
  EXPECT_EQ(set_refusal("name="), "--set name=: name: expected text, not empty, got nothing");
  EXPECT_EQ(set_refusal("model.heads=7"),
            "run.yaml: model.width (not set, so its default): must be a multiple of heads (7)");
}

TEST(Config, OverridesOfASectionKeepItsOtherKeys) {
  const char* const text = "model: {layers: 2, heads: 4, width: 64}\n";
  const Settings s = read(text, {"model={layers: 3, dropout: 0.5}"});
  EXPECT_EQ(s.model.layers, 3);
  EXPECT_EQ(s.model.heads, 4);
  EXPECT_EQ(s.model.width, 64);
  EXPECT_EQ(s.model.dropout, 0.5);
  EXPECT_EQ(read("name: x", {"model={layers: 3}", "model={heads: 3}"}).model.layers, 3);
  for (const char* const nothing : {"", "null", "5"}) {
    EXPECT_EQ(refusal(text, {fmt::format("model={}", nothing)}),
              fmt::format("--set model={}: 'model' is a section with keys in run.yaml:1; set one of them: "
                          "--set model.layers=...",
                          nothing));
  }
}

TEST(Config, OverridesOfTextAreNotParsed) {
  EXPECT_EQ(read("name: x", {"name=a #b"}).name, "a #b");
  EXPECT_EQ(read("name: x", {"name=  a b "}).name, "a b");
  EXPECT_EQ(read("name: x", {"name='a #b'"}).name, "a #b");
  EXPECT_EQ(read("name: x", {"name=\"a"}).name, "\"a");
  EXPECT_EQ(read("name: x", {"name=a\n...\nb"}).name, "a\n...\nb");
  EXPECT_EQ(read("name: x", {"name=caf\xe9"}).name, "caf\xe9");
  EXPECT_EQ(refusal("name: x", {"model.layers=5 #b"}),
            "--set model.layers=5 #b: model.layers: expected an integer, at least 1, got '5 #b'");
}

TEST(Config, OneLineValuesAreRead) {
  EXPECT_EQ(read("\xef\xbb\xbfname: \"caf\xc3\xa9 \\\"x\\\" #\" # note\n").name, "caf\xc3\xa9 \"x\" #");
  EXPECT_EQ(read("comment: \xc3\xa9\xe2\x82\xac\nname: 'it''s'\r\nshuffle: false\r\n").name, "it's");
  EXPECT_EQ(read("name: |\n  a\n  ...b\nshuffle: false\n").name, "a\n...b\n");
  EXPECT_EQ(read("name: a\n...\n# the end\n\n").name, "a");
  EXPECT_EQ(read("name: ...\n").name, "...");
  EXPECT_EQ(read("? name\n: \"x\"\ntags: [a b, 'c', \"d\"]\n").tags,
            (std::vector<std::string>{"a b", "c", "d"}));
}

struct Places {
  std::string dir = "here";
  std::string note;
  void describe(Fields& f) {
    f.path("dir", dir, "a directory", not_empty());
    f.value("note", note, "a text");
  }
};

TEST(Config, TildesInPathsAreExpanded) {
  const char* const before = std::getenv("HOME");
  const std::string home = before != nullptr ? before : "";
  ASSERT_EQ(setenv("HOME", "/homes/me", 1), 0);
  const auto dir = [](const std::string& text) {
    Places places;
    read_text("dir: " + text, "run.yaml", places);
    return places.dir;
  };
  EXPECT_EQ(dir("~/data"), "/homes/me/data");
  EXPECT_EQ(dir("'~'"), "/homes/me");
  EXPECT_EQ(dir("./~"), "./~");
  EXPECT_EQ(dir("a/~/b"), "a/~/b");
  EXPECT_EQ(dir("~root/x"), "/root/x");
  Places places;
  for (const std::string text : {"|", ">", "|-", ">2", "a|b"}) {
    apply_set("note=" + text, places);
    EXPECT_EQ(places.note, text);
  }
  apply_set("note=|\n  two\n  lines", places);
  EXPECT_EQ(places.note, "two\nlines");
  EXPECT_THROW(apply_set("dir=\"a\\0b\"", places), Error);
  apply_set("dir=~/y", places);
  EXPECT_EQ(places.dir, "/homes/me/y");
  apply_set("note=~/y", places);
  EXPECT_EQ(places.note, "~/y");
  try {
    (void)dir("~no-such-user/x");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()),
              "run.yaml:1: dir: ~no-such-user/x: user 'no-such-user' does not exist; for a directory of that "
              "name write ./~no-such-user/x");
  }
  if (before != nullptr)
    setenv("HOME", home.c_str(), 1);
  else
    unsetenv("HOME");
}

TEST(Config, StructsAreCheckedLikeFiles) {
  const auto problem = [](const Settings& settings) -> std::string {
    try {
      check_settings(settings, "run");
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  Settings s;
  EXPECT_EQ(problem(s), "");
  s.optimizer.algorithm = "adam";
  s.optimizer.betas = {0.9, 1.5};
  s.model.dropout = std::nan("");
  s.name = "";
  EXPECT_EQ(problem(s),
            "run.name: expected text, not empty, got ''\n"
            "run.model.dropout: expected a number, at least 0, below 1, got nan\n"
            "run.optimizer.algorithm: expected one of sgd, adamw, muon, got 'adam'; did you mean 'adamw'?\n"
            "run.optimizer.betas: element 2: expected a number, 2 values, between 0 and 1, got 1.5");
  s = {};
  s.optimizer.learning_rate = std::numeric_limits<double>::infinity();
  EXPECT_NE(problem(s), "");
  s = {};
  s.optimizer.betas = {0.5};
  EXPECT_EQ(problem(s),
            "run.optimizer.betas: expected a list of numbers, 2 values, between 0 and 1, got 1 values");
  s = {};
  s.model.heads = 5;
  EXPECT_EQ(problem(s), "run.model.width: must be a multiple of heads (5)");
}

TEST(Config, OneOverrideOnAStruct) {
  Settings settings;
  apply_set("model.layers=9", settings);
  EXPECT_EQ(settings.model.layers, 9);
  EXPECT_THROW(apply_set("model.layers=0", settings), Error);
  EXPECT_EQ(settings.model.layers, 9);
}

TEST(Config, RefusesFilesBeyondTheLimits) {
  std::string deep = "name: ";
  for (int i = 0; i < 5000; ++i) deep += "[";
  EXPECT_NE(refusal(deep), "");
  deep += std::string(5000, ']');
  EXPECT_NE(refusal(deep).find("nested deeper than"), std::string::npos) << refusal(deep);
  std::string deep_map;
  for (int i = 0; i < 100; ++i) deep_map += std::string(static_cast<size_t>(i), ' ') + "a:\n";
  EXPECT_NE(refusal(deep_map).find("nested deeper than"), std::string::npos);

  std::string bomb = "a: &a [x, x]\n";
  for (char c = 'b'; c < 'z'; ++c) {
    bomb += fmt::format("{}: &{} [*{}, *{}]\n", c, c, static_cast<char>(c - 1), static_cast<char>(c - 1));
  }
  EXPECT_NE(refusal(bomb).find("anchors and aliases"), std::string::npos);

  EXPECT_NE(refusal("name: " + std::string(static_cast<size_t>(kMaxConfigBytes), 'x')).find("longer than"),
            std::string::npos);
  std::string many = "sizes: [";
  for (int64_t i = 0; i < kMaxConfigNodes; ++i) many += "1,";
  EXPECT_NE(refusal(many + "]").find("more than 50000 values"), std::string::npos);
}

TEST(Config, FilesAreNamedInErrors) {
  const std::filesystem::path path = std::filesystem::path(testing::TempDir()) / "config_test_run.yaml";
  Settings settings;
  std::filesystem::remove(path);
  try {
    read_run_file(path, settings);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()),
              path.string() + ": cannot open the run file: No such file or directory");
  }
  EXPECT_THROW(read_run_file(testing::TempDir(), settings), Error);
  std::ofstream(path) << "name: x\nmodel: {layers: 3}\n";
  const std::vector<std::string> sets = {"model.layers=4"};
  read_run_file(path, settings, sets);
  EXPECT_EQ(settings.name, "x");
  EXPECT_EQ(settings.model.layers, 4);
  std::filesystem::remove(path);
}

struct NoKeys {
  void describe(Fields&) {}
};
struct Twice {
  int64_t a = 0;
  NoKeys none;
  bool twice = false;
  void describe(Fields& f) {
    f.value("a", a, "");
    f.section("none", none, "");
    if (twice) f.value("a", a, "");
  }
};

TEST(Config, DescriptionMistakesAreFound) {
  Twice settings;
  read_text(to_yaml(settings), "run.yaml", settings);
  settings.twice = true;
  EXPECT_THROW(read_text("a: 1", "run.yaml", settings), Error);
}

TEST(Config, EditDistance) {
  EXPECT_EQ(edit_distance("", ""), 0);
  EXPECT_EQ(edit_distance("abc", ""), 3);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
  EXPECT_EQ(edit_distance("widht", "width"), 1);
  EXPECT_EQ(edit_distance("ca", "abc"), 3);  // optimal string alignment, not full Damerau
  const std::vector<std::string> keys = {"layers", "heads", "learning_rate"};
  EXPECT_EQ(nearest("Layers", keys), "layers");
  EXPECT_EQ(nearest("learning-rate", keys), "learning_rate");
  EXPECT_EQ(nearest("haeds", keys), "heads");
  EXPECT_EQ(nearest("width", keys), "");
  EXPECT_EQ(nearest("", keys), "");
}

TEST(Config, Utf8) {
  for (const char* good :
       {"", "a", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x8e\xb6", "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf"})
    EXPECT_TRUE(is_utf8(good)) << good;
  for (const char* bad : {"\x80", "\xc3", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80",
                          "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe2\x82", "a\xff"})
    EXPECT_FALSE(is_utf8(bad)) << bad;
}

}  // namespace
}  // namespace tutti::test
