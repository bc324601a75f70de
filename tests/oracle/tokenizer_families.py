"""Tokenizers of the published families, created with the `tokenizers` package: the published pipelines with vocabularies
that are trained on a given text."""
import base64
import copy
import itertools
import json
import struct

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = CL100K.replace("{1,3}", "")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
DEEPSEEK = [r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
            "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
            "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"]


def byte_level(trained, pre_tokenizer, **parts):
    """A byte-level BPE: the trained vocabulary with another pre-tokenizer."""
    data = copy.deepcopy(trained)
    data.update(pre_tokenizer=pre_tokenizer, decoder={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                                                      "use_regex": True}, **parts)
    return data


def bytes_only(add_prefix_space=False):
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": False}


def gpt2_bytes(add_prefix_space=False):
    return {**bytes_only(add_prefix_space), "use_regex": True}


def split(pattern, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def template(data, before=(), behind=()):
    vocab = data["model"]["vocab"]
    ids = vocab if isinstance(vocab, dict) else {token: i for i, (token, _) in enumerate(vocab)}
    added = {token["content"]: token["id"] for token in data["added_tokens"]}
    items = [{"SpecialToken": {"id": t, "type_id": 0}} for t in before]
    items += [{"Sequence": {"id": "A", "type_id": 0}}]
    items += [{"SpecialToken": {"id": t, "type_id": 0}} for t in behind]
    special = {t: {"id": t, "ids": [added.get(t, ids.get(t))], "tokens": [t]} for t in (*before, *behind)}
    return {"type": "TemplateProcessing", "single": items,
            "pair": items + [{"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": special}


def trained(model, trainer, texts, pre_tokenizer=None, normalizer=None):
    tokenizer = Tokenizer(model)
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.train_from_iterator(texts, trainer)
    return json.loads(tokenizer.to_str())


def charsmap(pairs):
    """A precompiled map of SentencePiece: a double array of the keys, then the texts."""
    texts, places = b"", {}
    for key, value in sorted(pairs.items()):
        places[key.encode()] = len(texts)
        texts += value.encode() + b"\0"
    trie = {}
    for key, place in places.items():
        node = trie
        for byte in key:
            node = node.setdefault(byte, {})
        node[-1] = place
    units, used = {0: 0}, {0}

    def place_children(node, at):
        labels = [b for b in node if b >= 0]
        leaf = -1 in node
        for base in itertools.count(1):
            spots = [base ^ b for b in labels] + ([base] if leaf else [])
            offset = base ^ at
            if any(s in used for s in spots) or offset >= 1 << 21:
                continue
            break
        used.update(spots)
        used.add(base)
        units[at] = units.get(at, 0) | offset << 10 | (256 if leaf else 0)
        if leaf:
            units[base] = 1 << 31 | node[-1]
        for b in labels:
            units[base ^ b] = b
        for b in labels:
            place_children(node[b], base ^ b)

    place_children(trie, 0)
    size = (max(units) // 256 + 1) * 256
    array = b"".join(struct.pack("<I", units.get(i, 0)) for i in range(size))
    return base64.b64encode(struct.pack("<I", len(array)) + array + texts).decode()


def families(texts):
    """Yields (name, tokenizer.json as data)."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    gpt2 = trained(models.BPE(), trainers.BpeTrainer(vocab_size=3000, special_tokens=["<|endoftext|>"], show_progress=False,
                                                     initial_alphabet=alphabet),
                   texts, pre_tokenizers.ByteLevel(add_prefix_space=False))
    yield "GPT-2", byte_level(gpt2, gpt2_bytes(), post_processor={"type": "ByteLevel", "add_prefix_space": True,
                                                                  "trim_offsets": False, "use_regex": True})
    yield "GPT-2 saved by transformers 5", byte_level(gpt2, gpt2_bytes(), post_processor=template(gpt2))
    yield "RoBERTa", byte_level(gpt2, gpt2_bytes(), post_processor={
        "type": "RobertaProcessing", "sep": ["<|endoftext|>", 0], "cls": ["<|endoftext|>", 0], "trim_offsets": True,
        "add_prefix_space": False})
    yield "byte level with a space before", byte_level(gpt2, gpt2_bytes(True))
    for name, pattern in (("Llama-3", CL100K), ("o200k", O200K), ("StarCoder's GPT-2 as Split", GPT2)):
        data = byte_level(gpt2, sequence(split(pattern), bytes_only()))
        data["model"]["ignore_merges"] = True
        data["post_processor"] = {"type": "Sequence", "processors": [
            {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
            template(data, ["<|endoftext|>"])]}
        yield name, data
    yield "cl100k as Removed and inverted", byte_level(gpt2, sequence(split(CL100K, "Removed", True), bytes_only()))
    yield "Qwen2", byte_level(gpt2, sequence(split(QWEN2), bytes_only()), normalizer={"type": "NFC"})
    yield "GPT-NeoX", byte_level(gpt2, gpt2_bytes(), normalizer={"type": "NFC"})
    yield "SmolLM", byte_level(gpt2, sequence({"type": "Digits", "individual_digits": True}, gpt2_bytes()))
    yield "DeepSeek", byte_level(gpt2, sequence(*map(split, DEEPSEEK), bytes_only()))
    yield "Falcon", byte_level(gpt2, sequence(
        {"type": "Punctuation", "behavior": "Contiguous"}, gpt2_bytes(),
        {"type": "Digits", "individual_digits": False}, split("[0-9][0-9][0-9]")))
    yield "byte level without words", byte_level(gpt2, bytes_only())
    yield "ByteLevel as normalizer", byte_level(gpt2, sequence(split(" ?[^ ]+")), normalizer={"type": "ByteLevel"})
    yield "no-op parts", {**byte_level(gpt2, sequence(gpt2_bytes())), "normalizer": {"type": "Sequence", "normalizers": []},
                          "decoder": None}
    few = trained(models.BPE(unk_token="<unk>"), trainers.BpeTrainer(vocab_size=400, special_tokens=["<unk>"],
                                                                     show_progress=False), texts[:1],
                  pre_tokenizers.ByteLevel(add_prefix_space=False))
    yield "byte level without all bytes", byte_level(few, gpt2_bytes())
    silent = copy.deepcopy(few)
    silent["model"]["unk_token"] = None
    yield "byte level that drops bytes", byte_level(silent, gpt2_bytes())

    # SentencePiece-like BPE.
    marked = [t.replace(" ", "▁") for t in texts]
    fallback = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    llama = trained(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True),
                    trainers.BpeTrainer(vocab_size=3000, special_tokens=fallback, show_progress=False, limit_alphabet=150),
                    ["▁" + t for t in marked], pre_tokenizers.Split("▁", "merged_with_next"))
    llama["added_tokens"] = llama["added_tokens"][:3]
    llama["pre_tokenizer"] = None
    space, prepend = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}, {"type": "Prepend", "prepend": "▁"}
    undo = [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    llama2 = {**llama, "normalizer": {"type": "Sequence", "normalizers": [prepend, space]},
              "decoder": {"type": "Sequence", "decoders": [*undo, strip]}}
    llama2["post_processor"] = template(llama, ["<s>"])
    yield "Llama-2", llama2
    yield "Gemma", {**llama, "normalizer": space, "decoder": {"type": "Sequence", "decoders": undo},
                    "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious",
                                      "invert": False}, "post_processor": template(llama, ["<s>"], ["</s>"])}
    for scheme, words in (("first", False), ("always", True), ("never", True), ("first", True)):
        meta = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": words}
        yield f"Mistral, Metaspace {scheme}, split {words}", {**llama, "normalizer": None, "pre_tokenizer": meta, "decoder": {
            "type": "Sequence", "decoders": [*undo, strip]}}
        yield f"Metaspace decoder, {scheme}", {**llama, "normalizer": {"type": "Strip", "strip_left": True, "strip_right": False},
                                               "pre_tokenizer": meta, "decoder": meta}
    phi3 = copy.deepcopy(llama2)
    phi3["added_tokens"] += [
        {"id": 3000 + i, "content": c, "single_word": False, "lstrip": False, "rstrip": True, "normalized": False,
         "special": True} for i, c in enumerate(["<|user|>", "<|end|>", "<|assistant|>"])]
    yield "Phi-3", phi3
    for fuse, byte_fallback, unknown in ((True, False, "<unk>"), (False, False, "<unk>"), (False, False, None)):
        plain = copy.deepcopy(llama2)
        plain["model"].update(fuse_unk=fuse, byte_fallback=byte_fallback, unk_token=unknown)
        yield f"no fallback, fuse_unk {fuse}, unk_token {unknown}", plain
    some = copy.deepcopy(llama2)
    for b in range(0x80, 0xa0):
        del some["model"]["vocab"][f"<0x{b:02X}>"]
    yield "some bytes to fall back to", some
    suffix = trained(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"),
                     trainers.BpeTrainer(vocab_size=2000, special_tokens=["<unk>"], end_of_word_suffix="</w>",
                                         show_progress=False), texts, pre_tokenizers.Whitespace(),
                     normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()]))
    yield "end_of_word_suffix", {**suffix, "decoder": {"type": "BPEDecoder", "suffix": "</w>"}}
    prefixed = trained(models.BPE(unk_token="<unk>", continuing_subword_prefix="##"),
                       trainers.BpeTrainer(vocab_size=2000, special_tokens=["<unk>"], continuing_subword_prefix="##",
                                           show_progress=False), texts, pre_tokenizers.WhitespaceSplit())
    yield "continuing_subword_prefix", prefixed

    # Unigram.
    unigram = trained(models.Unigram(), trainers.UnigramTrainer(vocab_size=2000, special_tokens=["<pad>", "</s>", "<unk>"],
                                                                unk_token="<unk>", show_progress=False),
                      texts[:200], pre_tokenizers.Metaspace())
    unigram["model"]["unk_id"] = 2
    meta = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    shrink = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
    chars = {"type": "Precompiled", "precompiled_charsmap": charsmap({
        "ﬁ": "fi", "\t": " ", "\n": " ", "\r": " ", "　": " ", "…": "...", "é": "é", "Å": "Å", "ｶﾞ": "ガ", "ｱ": "ア",
        "\u200b": "", "①": "1", "İ": "i̇", "½": "1⁄2", "\u00a0": " ", "\r\n": " ", "A": "a", "각": "각"})}
    t5 = {**unigram, "normalizer": {"type": "Sequence", "normalizers": [chars, shrink]},
          "pre_tokenizer": sequence({"type": "WhitespaceSplit"}, meta), "decoder": meta,
          "post_processor": template(unigram, [], ["</s>"])}
    yield "T5", t5
    yield "XLM-R", {**t5, "pre_tokenizer": meta}
    yield "Unigram, Nmt and NFKC", {**unigram, "pre_tokenizer": meta, "decoder": meta, "normalizer": {
        "type": "Sequence", "normalizers": [{"type": "Nmt"}, {"type": "NFKC"}, shrink]}}
    whole = copy.deepcopy(unigram)
    whole["pre_tokenizer"] = {**meta, "split": False}
    yield "Unigram without words", whole
    fall = copy.deepcopy(unigram)
    fall["model"]["vocab"] += [[f"<0x{b:02X}>", -20.0] for b in range(256)]
    fall["model"]["byte_fallback"] = True
    yield "Unigram with byte_fallback", {**fall, "pre_tokenizer": meta,
                                         "decoder": {"type": "Sequence", "decoders": [*undo, strip]}}

    # WordPiece and WordLevel.
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    bert = trained(models.WordPiece(unk_token="[UNK]"),
                   trainers.WordPieceTrainer(vocab_size=3000, special_tokens=special, show_progress=False), texts,
                   pre_tokenizers.BertPreTokenizer(), normalizers.BertNormalizer())
    for lower, accents in ((True, None), (False, None), (False, True), (True, False)):
        yield f"BERT, lowercase {lower}, strip_accents {accents}", {
            **bert, "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                                   "strip_accents": accents, "lowercase": lower},
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
            "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}}
    level = trained(models.WordLevel(unk_token="[UNK]"), trainers.WordLevelTrainer(
        vocab_size=2000, special_tokens=["[UNK]"], show_progress=False), texts, pre_tokenizers.Whitespace())
    yield "WordLevel", level
    steps = {"NFD and StripAccents": [{"type": "NFD"}, {"type": "StripAccents"}],
             "NFKD and Lowercase": [{"type": "NFKD"}, {"type": "Lowercase"}],
             "Strip": [{"type": "Strip", "strip_left": True, "strip_right": True}],
             "Replace by an expression": [{"type": "Replace", "pattern": {"Regex": "[aeiou]+|(?<=x)y"}, "content": "_"}]}
    for name, normalizer in steps.items():
        yield f"byte level, {name}", byte_level(gpt2, gpt2_bytes(),
                                                normalizer={"type": "Sequence", "normalizers": normalizer})
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            yield f"Split {behavior}, invert {invert}", byte_level(
                gpt2, sequence(split(r"\p{Lu}|\d+|x*|[.,]\s", behavior, invert), bytes_only()))
        yield f"Split at a text, {behavior}", byte_level(gpt2, sequence({
            "type": "Split", "pattern": {"String": "th"}, "behavior": behavior, "invert": False}, bytes_only()))
        yield f"Punctuation {behavior}", byte_level(gpt2, sequence({"type": "Punctuation", "behavior": behavior}, bytes_only()))
    for step in ({"type": "Digits", "individual_digits": False}, {"type": "CharDelimiterSplit", "delimiter": "e"},
                 {"type": "Whitespace"}, {"type": "WhitespaceSplit"}, {"type": "BertPreTokenizer"},
                 {"type": "FixedLength", "length": 3}):
        yield f"byte level behind {step['type']}", byte_level(gpt2, sequence(step, bytes_only()))

    # Added tokens: with gaps, out of order, inside the vocabulary, with all flags.
    def token(content, at, **flags):
        return {"id": at, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                "special": False, **flags}
    odd = byte_level(gpt2, gpt2_bytes())
    odd["added_tokens"] += [
        token("<|b|>", 5000, special=True), token("<|a|>", 4000, special=True), token("th", 17), token("<|b|>x", 3001),
        token("word", 3002, single_word=True), token("<l>", 3003, lstrip=True), token("<r>", 3004, rstrip=True, special=True),
        token("<lr>", 3005, lstrip=True, rstrip=True), token("And God", 3006, normalized=True),
        token("É", 3007, normalized=True), token("", 3008), token("<|b|>", 3009), token("  ", 3010, normalized=True)]
    yield "added tokens", odd
    yield "added tokens and NFD", {**odd, "normalizer": {"type": "NFD"}}
    yield "added tokens and Llama-2", {**llama2, "added_tokens": llama2["added_tokens"] + odd["added_tokens"][1:]}
    holes = copy.deepcopy(odd)
    holes["model"]["vocab"] = {t: i + (i > 2500) * 100 for t, i in holes["model"]["vocab"].items()}
    yield "holes in the vocabulary", holes
    limited = {**byte_level(gpt2, gpt2_bytes()), "padding": {"strategy": {"Fixed": 5}, "direction": "Right",
               "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "x"},
               "truncation": {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}}
    yield "truncation and padding", limited
