#!/usr/bin/env python3
"""Compares our tokenizer with the `tokenizers` package from PyPI on the same tokenizer.json: ids, ids with those of the
post-processor, ids of sections, and the decoded text, for each published family (tokenizer_families.py) on all characters,
adversarial text and the King James Bible.

Usage: tokenizer_oracle.py path/to/oracle_tokenizer_codec [seed [part of a family's name]]
Exits with 1 if anything differs.
"""
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
import unicodedata

import tokenizers
from tokenizers import Tokenizer

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from tokenizer_families import families  # noqa: E402

differences = 0


def encode(codec, tokenizer_path, texts):
    """(ids, before, after, ids of sections, text) of each text, by our encoder; or its error message."""
    data = b"".join(struct.pack("<I", len(t)) + t for t in (text.encode() for text in texts))
    done = subprocess.run([codec, "encode", tokenizer_path], input=data, capture_output=True)
    if done.returncode != 0:
        return done.stderr.decode("utf-8", errors="replace")
    out, answers, at = done.stdout, [], 0
    while at < len(out):
        lists = []
        for _ in range(4):
            (count,) = struct.unpack_from("<I", out, at)
            lists.append(list(struct.unpack_from(f"<{count}i", out, at + 4)))
            at += 4 + 4 * count
        (length,) = struct.unpack_from("<I", out, at)
        answers.append((*lists, out[at + 4:at + 4 + length].decode("utf-8", errors="replace")))
        at += 4 + length
    return answers


def differ(message):
    global differences
    differences += 1
    if differences < 40:
        print(f"DIFFERENT {message}", flush=True)


def compare(codec, path, texts, name):
    theirs = Tokenizer.from_file(path)
    theirs.no_truncation()
    theirs.no_padding()
    ours = encode(codec, path, texts)
    if isinstance(ours, str):
        return differ(f"{name}: refused: {ours}")
    if len(ours) != len(texts):
        return differ(f"{name}: {len(ours)} answers to {len(texts)} texts")
    before = differences
    for text, (ids, first, last, of_sections, back) in zip(texts, ours):
        expected = theirs.encode(text, add_special_tokens=False).ids
        shown = text if len(text) < 200 else text[:200] + ".."
        if ids != expected:
            k = next((i for i, (a, b) in enumerate(zip(ids, expected)) if a != b), min(len(ids), len(expected)))
            around = slice(max(k - 3, 0), k + 8)
            differ(f"{name}: ids of {shown!r} from {k}\n ours   {ids[around]} {[theirs.id_to_token(i) for i in ids[around]]}\n"
                   f" theirs {expected[around]} {[theirs.id_to_token(i) for i in expected[around]]}")
        elif first + ids + last != theirs.encode(text).ids:
            differ(f"{name}: special tokens of {shown!r}: {first} {last}, {theirs.encode(text).ids[:20]}")
        elif of_sections != ids:
            differ(f"{name}: ids of sections of {shown!r}")
        elif back != theirs.decode(ids, skip_special_tokens=False):
            differ(f"{name}: {shown!r}\n is decoded as {back[:200]!r}\n not {theirs.decode(ids, skip_special_tokens=False)[:200]!r}")
        if differences - before > 3:
            return None
    if differences == before:
        print(f"{name}: {len(texts)} texts, {sum(len(o[0]) for o in ours)} ids, all equal", flush=True)
    return None


def assigned_characters():
    """The characters of this Python's Unicode version: newer ones may differ in class."""
    return [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]


PIECES = [
    "'s", "'t", "'re", "'VE", "'m", "'ll", "'D", "'", "’s", "‘", " ", "  ", "   ", "\n", "\n\n", "\t", "the", " the", " God",
    "<|endoftext|>", "<|endof", "12", " 7", "1234567", "...", "don't", "\r\n", "\r", " \n ", "\u00a0", "　", "\u2028", "\x00",
    "\x7f", "\x0b", "\ufffd", "▁", "▁▁the", "<unk>", "<s>", "</s>", "<0x0A>", "[CLS]", "[MASK]", "##ed", "e\u0301", "É", "ﬁ",
    "Å", "ẛ̣", "각", "각", "ｶﾞ", "ſ", "K", "İ", "ß", "Σ", "👩‍🚀", "👨‍👩‍👧‍👦", "🇩🇪🇫🇷", "✌🏽", "שָׁלוֹם", "مرحبا", "नमस्ते", "ไทย", "日本語",
    "中文", "한국어", "привет", "١٢٣", "Ⅷ", "½", "²", "x\u0300\u0301\u0327", "\u200b", "\u200d", "\u200e", "\ufeff", "¿", "—", "_", "$",
    "https://a.b/c?d=e&f", "def f(x):\n    return x\n", "/*\n", "//\n", "<|b|>", "<|a|>", "<l>", "<r>", "<lr>", "word", "And God",
    "th", "…", "①", "𝔘", "ǅ", "ა", "Ა", "xy", "<|user|>", "<|end|>", "A", "\u0130", "\u0345", "\U0001d15e", "\ud7ff", "\U0010ffff"]


def adversarial_texts(rng, count):
    assigned = assigned_characters()
    marks = [c for c in assigned if unicodedata.category(c).startswith("M")]
    for _ in range(count):
        kind, text = rng.random(), ""
        for _ in range(rng.randrange(40)):
            r = rng.random()
            if r < 0.3 * kind:
                text += rng.choice(assigned)
            elif r < 0.4 * kind:
                text += rng.choice(marks)
            elif r < 0.7:
                text += rng.choice(PIECES)
            elif r < 0.8:
                text += " "
            else:
                text += "".join(rng.choice("etaoinshrdlu") for _ in range(rng.randrange(9)))
        yield text
    yield ""
    yield from PIECES
    yield from (" " + p for p in PIECES)
    for letter in ("a", " ", "\n", "'", "é", "日", "1", "👩‍", "▁", "\x00", "the ", "ab"):
        yield letter * 3000
    yield "".join(rng.choice("abcdefgh") for _ in range(20000))


def as_pairs(data):
    data = json.loads(json.dumps(data))
    data["model"]["merges"] = [m.split(" ") if isinstance(m, str) else m for m in data["model"]["merges"]]
    return data


def trained_here(codec, folder, book, texts):
    """Our training: its output gives the same ids in the package, and its merges are the same up to ties."""
    path = os.path.join(folder, "ours.json")
    for vocabulary in (300, 4096):
        subprocess.run([codec, "train", str(vocabulary), path], input=(book + "".join(texts)).encode(), check=True)
        compare(codec, path, texts + [book], f"trained here, {vocabulary} tokens")
    with open(path, encoding="utf-8") as file:
        data = as_pairs(json.load(file))
    pairs = os.path.join(folder, "pairs.json")
    with open(pairs, "w", encoding="utf-8") as file:
        json.dump(data, file)
    compare(codec, pairs, texts, "merges as pairs")
    subprocess.run([codec, "train", "4096", path], input=book.encode(), check=True)
    theirs = Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.train_from_iterator([book], tokenizers.trainers.BpeTrainer(
        vocab_size=4096, special_tokens=["<|endoftext|>"], min_frequency=2, show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    begin = time.monotonic()
    there = len(theirs.encode(book).ids)
    seconds = time.monotonic() - begin
    here = len(encode(codec, path, [book])[0][0])
    print(f"4096 tokens trained on the Bible: {here} ids here, {there} there "
          f"(theirs encoded at {len(book) / seconds / 1e6:.1f} MB/s)")
    if abs(here - there) > 0.001 * there:
        differ("the trained vocabularies differ by more than ties")


def main():
    codec = sys.argv[1]
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(1 << 32)
    wanted = sys.argv[3] if len(sys.argv) > 3 else ""
    rng = random.Random(seed)
    print(f"tokenizers {tokenizers.__version__}, Unicode {unicodedata.unidata_version} here, seed {seed}")
    book = subprocess.run(["bible", "-f", "gen1:1-rev22:21"], stdout=subprocess.PIPE, check=True).stdout.decode()
    texts = list(adversarial_texts(rng, 400))
    assigned = assigned_characters()
    texts += ["".join(assigned[i:i + 4000]) for i in range(0, len(assigned), 4000)]
    texts += [" ".join(assigned[i:i + 4000]) for i in range(0, len(assigned), 4000) if i < 20000 or i > 120000]
    for _ in range(3):  # parts of the book, with line breaks
        at = rng.randrange(len(book) - 20000)
        texts.append(book[at:at + 20000])
    learn = [book[i:i + 2000] for i in range(0, 400000, 2000)] + texts[:400]
    with tempfile.TemporaryDirectory() as folder:
        for i, (name, data) in enumerate(families(learn)):
            if wanted not in name:
                continue
            path = os.path.join(folder, f"{i}.json")
            with open(path, "w", encoding="utf-8") as file:
                json.dump(data, file, ensure_ascii=rng.random() < 0.5)
            compare(codec, path, texts, name)
        if not wanted:
            trained_here(codec, folder, book, texts[:400])
    if differences > 0:
        sys.exit(f"{differences} differences")


if __name__ == "__main__":
    main()
