"""Fails unless the event files of a run contain each of the steps 1 to N once, as TensorBoard reads them.

Usage: FOLDER N
"""
import pathlib
import struct
import sys


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def fields(data):
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            value, at = varint(data, at)
        elif key & 7 == 2:
            size, at = varint(data, at)
            value, at = data[at : at + size], at + size
        else:
            size = 8 if key & 7 == 1 else 4
            value, at = data[at : at + size], at + size
        yield key >> 3, value


def events(path):
    data, at = path.read_bytes(), 0
    while at + 12 <= len(data):
        size = struct.unpack_from("<Q", data, at)[0]
        if at + 16 + size > len(data):
            return  # truncated when its writer ended
        yield dict(fields(data[at + 12 : at + 12 + size]))
        at += 16 + size


steps = []
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    for event in events(path):
        step = event.get(2, 0)
        if 7 in event:  # a session begins: later steps of earlier ones are dropped
            steps = [s for s in steps if s < step]
        elif 5 in event and b"train/loss" in event[5]:
            steps.append(step)
expected = list(range(1, int(sys.argv[2]) + 1))
sys.exit(0 if sorted(steps) == expected else f"{len(steps)} steps, {len(set(steps))} different")
