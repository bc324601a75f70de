#!/usr/bin/env python3
"""Reads our event files with TensorBoard (pip install tensorboard) and compares every scalar with the written value; the
second file of a resumed run must replace the repeated steps.

Usage: tensorboard_oracle.py path/to/oracle_tensorboard_writer [seed]
Exits with 1 on the first difference.
"""
import math
import os
import random
import struct
import subprocess
import sys
import tempfile

from tensorboard import version
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader


def as_float32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def write(writer, folder, seed, steps, resumed):
    text = subprocess.run([writer, folder, str(seed), str(steps), str(resumed)], stdout=subprocess.PIPE, check=True,
                          text=True).stdout
    rows = {}
    for line in text.splitlines():
        step, *values = line.split()
        rows[int(step)] = [float.fromhex(value) if "nan" not in value else math.nan for value in values]
    return rows


def same(a, b):
    return a == b or (math.isnan(a) and math.isnan(b))


def compare(accumulator, tag, expected):
    found = {event.step: event.value for event in accumulator.Scalars(tag)}
    if sorted(found) != sorted(expected):
        sys.exit(f"{tag}: steps {sorted(found)} were read, {sorted(expected)} were written")
    for step, value in expected.items():
        if not same(found[step], as_float32(value)):
            sys.exit(f"{tag}: step {step} is {found[step]!r}, {value!r} was written")


def load(path):
    return list(LegacyEventFileLoader(path).Load())


def check_that_damage_is_detected(path, count, seed):
    """Our checksums are tested only if the reader refuses damaged records."""
    with open(path, "rb") as file:
        data = bytearray(file.read())
    data[random.Random(seed).randrange(len(data))] ^= 1
    with tempfile.TemporaryDirectory() as elsewhere:
        damaged = os.path.join(elsewhere, os.path.basename(path))
        with open(damaged, "wb") as file:
            file.write(data)
        try:
            left = len(load(damaged))
        except Exception as error:  # the type depends on the position
            print(f"damaged copy refused: {type(error).__name__}")
            return
        if left >= count:
            sys.exit(f"{path}: TensorBoard accepts a damaged copy")


def main():
    writer = sys.argv[1]
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(1 << 32)
    print(f"tensorboard {version.VERSION}, seed {seed}")
    with tempfile.TemporaryDirectory() as folder:
        first = write(writer, folder, seed, 50, 0)
        # The run was stopped after step 50 and continues from the checkpoint of step 31.
        second = write(writer, folder, seed + 1, 83, 31)
        rows = {step: row for step, row in first.items() if step <= 31} | second

        files = sorted(os.listdir(folder))
        if len(files) != 2 or not all(name.startswith("events.out.tfevents.") for name in files):
            sys.exit(f"files: {files}")
        for name in files:
            events = load(os.path.join(folder, name))
            if events[0].file_version != "brain.Event:2" or len(events) < 50:
                sys.exit(f"{name}: {len(events)} events, the first {events[0]}")
            check_that_damage_is_detected(os.path.join(folder, name), len(events), seed)

        accumulator = EventAccumulator(folder, size_guidance={"scalars": 0, "tensors": 0})
        accumulator.Reload()
        tags = set(accumulator.Tags()["scalars"])
        for column, tag in enumerate(["train/loss", "train/learning_rate", "train/grad_norm", "time/step_s"]):
            compare(accumulator, tag, {step: row[column] for step, row in rows.items()})
        compare(accumulator, "throughput/tokens_per_s", {step: 1000 / row[3] for step, row in rows.items()})
        compare(accumulator, "time/data_wait_s", {step: 0.125 for step in rows})
        compare(accumulator, "time/comm_wait_s", {step: 0.25 for step in rows})
        compare(accumulator, "time/optimizer_s", {step: 0.0625 for step in rows})
        compare(accumulator, "memory/tensors_mib", {step: 3072.0 for step in rows})
        evaluations = [step for step in range(5, 84, 5)]
        compare(accumulator, "eval/loss", {step: 0.5 for step in evaluations})
        compare(accumulator, "eval/accuracy", {step: 0.75 for step in evaluations})
        print(f"{len(tags)} tags over {len(rows)} steps in {len(files)} files, all equal")


if __name__ == "__main__":
    main()
