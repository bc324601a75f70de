#!/usr/bin/env python3
"""Compares our safetensors reader and writer with the `safetensors` package: files of the package are unchanged after we read
and write them, the package opens our checkpoints, and of thousands of damaged files it accepts all that our reader accepts.

Usage: safetensors_oracle.py path/to/oracle_safetensors_codec [seed]
Exits with 1 on the first difference.
"""
import json
import os
import random
import subprocess
import sys
import tempfile

import numpy as np
import safetensors
from safetensors import safe_open
from safetensors.numpy import save_file

SIZES = {"F32": 4, "BF16": 2, "F16": 2, "F64": 8, "I32": 4, "I64": 8, "U8": 1, "BOOL": 1, "I8": 1, "I16": 2, "U16": 2,
         "U32": 4, "U64": 8, "F8_E4M3": 1, "F8_E5M2": 1}
NAMES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16", "F64": "float64", "I32": "int32", "I64": "int64",
         "U8": "uint8", "BOOL": "bool", "I8": "int8", "I16": "int16", "U16": "uint16", "U32": "uint32", "U64": "uint64",
         "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}


def random_tensors(rng, dtypes):
    tensors = {}
    for i in range(rng.randrange(12)):
        dtype = rng.choice(dtypes)
        shape = [rng.choice([0, 1, 2, 3, 5, 17]) for _ in range(rng.randrange(5))]
        count = int(np.prod(shape)) if shape else 1
        data = bytes(rng.randrange(2) for _ in range(count)) if dtype == "BOOL" else rng.randbytes(count * SIZES[dtype])
        name = f"t{i}" + "".join(rng.choice("ab.0\"\\/\n\té€🎶") for _ in range(rng.randrange(6)))
        tensors[name] = {"dtype": dtype, "shape": shape, "data": data}
    return tensors


def theirs(path):
    """All tensors of a file by their reader: name -> (dtype, shape, bytes)."""
    with open(path, "rb") as file:
        entries = safetensors.deserialize(file.read())
    return {name: (entry["dtype"], list(entry["shape"]), bytes(entry["data"])) for name, entry in entries}


def accepted_by_them(data):
    try:
        safetensors.deserialize(data)
        return True
    except Exception:  # the package raises several types
        return False


def usable_dtypes():
    """The dtypes that the installed version can write."""
    usable = []
    for dtype in SIZES:
        try:
            safetensors.serialize({"t": {"dtype": NAMES[dtype], "shape": [1], "data": bytes(SIZES[dtype])}}, None)
            usable.append(dtype)
        except Exception:
            pass
    return usable


def main():
    codec = sys.argv[1]
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(2**32)
    rng = random.Random(seed)
    print(f"safetensors {safetensors.__version__}, seed {seed}")
    dtypes = usable_dtypes()
    if not {"F32", "BF16", "F16", "F64", "I32", "I64", "U8", "U16"} <= set(dtypes):
        sys.exit(f"the package writes only {dtypes}")
    with tempfile.TemporaryDirectory() as work:
        source, copy = os.path.join(work, "a.safetensors"), os.path.join(work, "b.safetensors")
        good = []
        for _ in range(100):
            tensors = random_tensors(rng, dtypes)
            metadata = {f"k{i}é": rng.choice(["", "pt", "\"quoted\"\n", "€"]) for i in range(rng.randrange(4))} or None
            data = safetensors.serialize(
                {name: {**t, "dtype": NAMES[t["dtype"]]} for name, t in tensors.items()}, metadata)
            good.append(bytes(data))
            with open(source, "wb") as file:
                file.write(data)
            subprocess.run([codec, "copy", source, copy], check=True)
            if theirs(copy) != theirs(source):
                sys.exit(f"a copy differs: {tensors.keys()}")
            with safe_open(copy, framework="np") as file:
                if (file.metadata() or None) != metadata:
                    sys.exit(f"metadata differ: {file.metadata()} and {metadata}")
        print(f"100 files of {len(dtypes)} dtypes are equal after reading and writing")

        save_file({"x": np.arange(12, dtype=np.float32).reshape(3, 4)}, os.path.join(work, "m-1.safetensors"))
        save_file({"y": np.arange(5, dtype=np.int64)}, os.path.join(work, "m-2.safetensors"))
        with open(os.path.join(work, "model.safetensors.index.json"), "w") as file:
            json.dump({"metadata": {"total_size": 88}, "weight_map": {"x": "m-1.safetensors", "y": "m-2.safetensors"}}, file)
        subprocess.run([codec, "model", work, copy], check=True)
        with safe_open(copy, framework="np") as file:
            if not (np.array_equal(file.get_tensor("x"), np.arange(12, dtype=np.float32).reshape(3, 4))
                    and np.array_equal(file.get_tensor("y"), np.arange(5))):
                sys.exit("a model in two files was not read correctly")
        subprocess.run([codec, "save", os.path.join(work, "checkpoints"), "7"], check=True)
        path = os.path.join(work, "checkpoints", "step-00000001", "model.safetensors")
        with safe_open(path, framework="np") as file:
            if file.metadata() != {"format": "pt"} or len(file.keys()) != 7:
                sys.exit("the model of a checkpoint was not read correctly")
        print("models and checkpoints are equal")

        paths, verdicts = [], []
        for i in range(4000):
            data = bytearray(rng.choice(good))
            header = 8 + int.from_bytes(data[:8], "little")
            for _ in range(rng.randrange(1, 4)):
                kind = rng.randrange(4)
                at = rng.randrange(header)
                if kind == 0:
                    data[at] = rng.choice(b"0123456789[]{},:\"- U8F16\\")
                elif kind == 1:
                    data[at] ^= 1 << rng.randrange(8)
                elif kind == 2:
                    del data[rng.randrange(len(data)):]
                    break
                else:
                    data += b"x"
            paths.append(os.path.join(work, f"d{i}"))
            with open(paths[-1], "wb") as file:
                file.write(data)
            verdicts.append(accepted_by_them(bytes(data)))
        out = subprocess.run([codec, "check"], input="\n".join(paths) + "\n", stdout=subprocess.PIPE, text=True, check=True)
        ours = [line == "ok" for line in out.stdout.splitlines() if line == "ok" or line.startswith("refused: ")]
        if len(ours) != len(paths):
            sys.exit(f"{len(ours)} results for {len(paths)} files")
        for path, mine, other in zip(paths, ours, verdicts):
            if mine and not other:
                with open(path, "rb") as file:
                    sys.exit(f"ours accepts what theirs refuses: {file.read()[:400]!r}")
        print(f"{len(paths)} damaged files: theirs accepts {sum(verdicts)}, ours {sum(ours)} of them")


main()
