#!/usr/bin/env python3
"""Compares our tokenizer with the `tokenizers` package from PyPI on the same tokenizer.json:
ids of random Unicode text and of the King James Bible, and the text back from the ids.

Usage: tokenizer_oracle.py path/to/oracle_tokenizer_codec [seed]
Ends with 1 on the first difference.
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


def encode(codec, tokenizer_path, texts):
    """Ids of each text, by our encoder."""
    data = b"".join(struct.pack("<I", len(t)) + t for t in (text.encode() for text in texts))
    out = subprocess.run([codec, "encode", tokenizer_path], input=data, stdout=subprocess.PIPE, check=True).stdout
    ids, at = [], 0
    while at < len(out):
        (count,) = struct.unpack_from("<I", out, at)
        ids.append(list(struct.unpack_from(f"<{count}i", out, at + 4)))
        at += 4 + 4 * count
    return ids


def compare(codec, path, texts, name):
    theirs = Tokenizer.from_file(path)
    ours = encode(codec, path, texts)
    if len(ours) != len(texts):
        sys.exit(f"{name}: {len(ours)} answers to {len(texts)} texts")
    for text, ids in zip(texts, ours):
        expected = theirs.encode(text, add_special_tokens=False).ids
        if ids != expected:
            sys.exit(f"{name}: different ids for {text[:200]!r}\n ours   {ids[:50]}\n theirs {expected[:50]}")
        back = theirs.decode(ids, skip_special_tokens=False)
        if back != text:
            sys.exit(f"{name}: {text[:200]!r} came back as {back[:200]!r}")
    print(f"{name}: {len(texts)} texts, {sum(map(len, ours))} ids, all equal")


def random_texts(rng, count):
    """Text of characters that this Python's Unicode version knows: newer ones may differ in class."""
    assigned = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
    spaces = [c for c in assigned if c.isspace()]
    pieces = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'", " ", "  ", "\n", "\t", "the", " the", "<|endoftext|>",
              "<|endof", "12", " 7", "...", "don't", "\r\n"]
    for _ in range(count):
        kind = rng.random()
        text = ""
        for _ in range(rng.randrange(60)):
            r = rng.random()
            if r < 0.4 * kind:
                text += rng.choice(assigned)
            elif r < 0.5 * kind:
                text += rng.choice(spaces)
            elif r < 0.8:
                text += rng.choice(pieces)
            else:
                text += "".join(rng.choice("etaoinshrdlu") for _ in range(rng.randrange(12)))
        yield text


def as_pairs(source, target):
    """The same tokenizer with merges as pairs."""
    with open(source, encoding="utf-8") as file:
        data = json.load(file)
    data["model"]["merges"] = [merge.split(" ") for merge in data["model"]["merges"]]
    with open(target, "w", encoding="utf-8") as file:
        json.dump(data, file)


def main():
    codec = sys.argv[1]
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(1 << 32)
    rng = random.Random(seed)
    print(f"tokenizers {tokenizers.__version__}, Unicode {unicodedata.unidata_version} here, seed {seed}")
    book = subprocess.run(["bible", "-f", "gen1:1-rev22:21"], stdout=subprocess.PIPE, check=True).stdout.decode()
    texts = list(random_texts(rng, 3000))
    with tempfile.TemporaryDirectory() as folder:
        trained_here = os.path.join(folder, "ours.json")
        for vocabulary in (300, 4096):
            subprocess.run([codec, "train", str(vocabulary), trained_here],
                           input=(book + "".join(texts)).encode(), check=True)
            compare(codec, trained_here, texts, f"trained here, {vocabulary} tokens, random text")
            compare(codec, trained_here, [book], f"trained here, {vocabulary} tokens, the Bible")
        pairs = os.path.join(folder, "pairs.json")
        as_pairs(trained_here, pairs)
        compare(codec, pairs, texts, "merges as pairs")

        trained_there = os.path.join(folder, "theirs.json")
        theirs = Tokenizer(tokenizers.models.BPE())
        theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        theirs.decoder = tokenizers.decoders.ByteLevel()
        theirs.post_processor = tokenizers.processors.ByteLevel(trim_offsets=False)
        theirs.train_from_iterator([book] + texts, tokenizers.trainers.BpeTrainer(
            vocab_size=5000, special_tokens=["<|endoftext|>"], show_progress=False,
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()))
        theirs.add_tokens(["in the beginning", "And God"])
        theirs.save(trained_there)
        compare(codec, trained_there, texts + [book], "trained by tokenizers")

        # Our training finds the same merges up to ties: what both encode takes equally many tokens.
        subprocess.run([codec, "train", "4096", trained_here], input=book.encode(), check=True)
        theirs = Tokenizer(tokenizers.models.BPE())
        theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        theirs.train_from_iterator([book], tokenizers.trainers.BpeTrainer(
            vocab_size=4096, special_tokens=["<|endoftext|>"], min_frequency=2, show_progress=False,
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()))
        begin = time.monotonic()
        there = len(theirs.encode(book).ids)
        seconds = time.monotonic() - begin
        here = len(encode(codec, trained_here, [book])[0])
        print(f"4096 tokens trained on the Bible: {here} ids here, {there} there "
              f"(theirs encoded at {len(book) / seconds / 1e6:.1f} MB/s)")
        if abs(here - there) > 0.001 * there:
            sys.exit("the trained vocabularies differ by more than ties explain")


if __name__ == "__main__":
    main()
