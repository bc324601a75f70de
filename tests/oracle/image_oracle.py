#!/usr/bin/env python3
"""Compares our image decoder with Pillow: JPEG (RGB, grey, CMYK, YCCK, progressive, EXIF 1-8 in both byte orders), PNG (all
colour types and depths, palettes, transparency, gamma, interlaced), WebP (lossy, lossless, with alpha, EXIF), identified by
content, not by name; and files that must be refused.

Usage: image_oracle.py path/to/oracle_image_codec [seed]
Exits with 1 on the first difference.
"""
import os
import random
import struct
import subprocess
import sys
import tempfile
import zlib

import numpy as np
from PIL import Image, ImageOps

codec = sys.argv[1]
seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 30)
print("seed", seed)
rng = np.random.default_rng(seed)
folder = tempfile.TemporaryDirectory()
cases = []  # path, tolerance, expected RGB or None (Pillow's), text of the error message or None


def path(name):
    return os.path.join(folder.name, f"{len(cases):03d}-{name}")


def add(name, save, tolerance=0, expected=None, refused=None):
    file = path(name)
    save(file)
    cases.append((file, tolerance, expected, refused))
    return file


def smooth(height, width, channels):
    """Low frequencies and a little noise, as in photographs."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [128 + 60 * np.sin(x / rng.uniform(5, 30) + rng.uniform(0, 6)) + 50 * np.cos(y / rng.uniform(5, 30))
              + rng.uniform(-6, 6, (height, width)) for _ in range(channels)]
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


def size():
    return int(rng.integers(1, 70)), int(rng.integers(1, 70))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(file, width, height, depth, colour, rows, more=b""):
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)) + more
    data += chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))) + chunk(b"IEND", b"")
    open(file, "wb").write(data)


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x0131] = "tutti"
    return exif.tobytes()


# JPEG. Decoders may differ by 1 in chroma upsampling and colour conversion; libjpeg-turbo is on both sides.
for _ in range(6):
    h, w = size()
    rgb = Image.fromarray(smooth(h, w, 3))
    add("rgb.jpg", lambda f: rgb.save(f, quality=90), 1)
    add("progressive.jpg", lambda f: rgb.save(f, quality=80, progressive=True), 1)
    add("full.jpg", lambda f: rgb.save(f, quality=95, subsampling=0), 1)
    add("grey.jpg", lambda f: Image.fromarray(smooth(h, w, 1)[..., 0]).save(f, quality=90), 1)
    inks = Image.fromarray(smooth(h, w, 4), "CMYK")
    add("cmyk.jpg", lambda f: inks.save(f, quality=95), 1)
    # The same bytes as YCCK: Adobe's marker has 2 instead of 0. The colours differ, but equally in all decoders.
    file = add("ycck.jpg", lambda f: inks.save(f, quality=95), 2)
    data = bytearray(open(file, "rb").read())
    at = data.find(b"Adobe")
    if at >= 0:
        data[at + 11] = 2
    else:
        data[2:2] = b"\xff\xee\x00\x0eAdobe\x00\x64\0\0\0\0\x02"
    open(file, "wb").write(bytes(data))
for orientation in range(1, 9):
    turned = Image.fromarray(smooth(40, 23, 3))
    add(f"exif{orientation}.jpg", lambda f: turned.save(f, quality=95, exif=exif_of(orientation)), 1)
    little = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + struct.pack("<HH", orientation, 0) + b"\0\0\0\0"
    add(f"little{orientation}.jpg", lambda f: turned.save(f, quality=95, exif=little), 1)
    add(f"exif{orientation}.png", lambda f: turned.save(f, exif=exif_of(orientation)))
    add(f"exif{orientation}.webp", lambda f: turned.save(f, lossless=True, exif=exif_of(orientation)))
    add(f"cmyk-exif{orientation}.jpg",
        lambda f: Image.fromarray(smooth(9, 20, 4), "CMYK").save(f, quality=95, exif=exif_of(orientation)), 1)
add("nonsense-exif.jpg", lambda f: Image.fromarray(smooth(9, 20, 3)).save(f, exif=b"Exif\0\0nonsense"), 1)

# PNG.
for _ in range(4):
    h, w = size()
    rgba = rng.integers(0, 256, (h, w, 4), dtype=np.uint8)
    add("rgb.png", lambda f: Image.fromarray(rgba[..., :3].copy()).save(f))
    add("rgba.png", lambda f: Image.fromarray(rgba).save(f))
    add("grey.png", lambda f: Image.fromarray(rgba[..., 0].copy()).save(f))
    add("grey-alpha.png", lambda f: Image.fromarray(rgba[..., :2].copy(), "LA").save(f))
    add("bits.png", lambda f: Image.fromarray(rgba[..., 0] > 128).save(f))
    palette = Image.fromarray(rgba[..., :3].copy()).quantize(int(rng.integers(2, 257)))
    add("palette.png", lambda f: palette.save(f))
    add("palette-alpha.png", lambda f: palette.save(f, transparency=bytes(rng.integers(0, 256, 16, dtype=np.uint8))))
    add("gamma.png", lambda f: raw_png(f, w, h, 8, 2, [r.tobytes() for r in rgba[..., :3].copy()],
                                       chunk(b"gAMA", struct.pack(">I", 100000))))
    add("transparent.png", lambda f: raw_png(f, w, h, 8, 2, [r.tobytes() for r in rgba[..., :3].copy()],
                                             chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3))))
    # Pillow reduces 16 bits to the high byte or, in grey, clips; the nearest 8-bit value is correct.
    deep = rng.integers(0, 65536, (h, w, 3))
    nearest = np.floor(deep / 257 + 0.5).astype(np.uint8)
    add("deep.png", lambda f: raw_png(f, w, h, 16, 2, [r.astype(">u2").tobytes() for r in deep]), 0, nearest)
    add("deep-grey.png", lambda f: raw_png(f, w, h, 16, 0, [r.astype(">u2").tobytes() for r in deep[..., 0]]), 0,
        np.repeat(nearest[..., :1], 3, -1))
    for depth in (2, 4):
        packed = rng.integers(0, 256, (h, (w * depth + 7) // 8), dtype=np.uint8)
        add(f"grey{depth}.png", lambda f: raw_png(f, w, h, depth, 0, [r.tobytes() for r in packed]))

# WebP: bit-exact by its specification.
for _ in range(5):
    h, w = size()
    pixels = smooth(h, w, 4)
    opaque = pixels.copy()
    add("lossy.webp", lambda f: Image.fromarray(pixels[..., :3].copy()).save(f, quality=80), 1)
    add("lossless.webp", lambda f: Image.fromarray(pixels[..., :3].copy()).save(f, lossless=True))
    pixels[..., 3] = np.maximum(pixels[..., 3], 1)  # Pillow makes fully transparent pixels black
    add("alpha.webp", lambda f: Image.fromarray(pixels).save(f, lossless=True, exact=True))
    add("lossy-alpha.webp", lambda f: Image.fromarray(pixels).save(f, quality=80, exact=True), 1)

frames = [Image.fromarray(smooth(20, 20, 3)) for _ in range(3)]
add("animated.webp", lambda f: frames[0].save(f, save_all=True, append_images=frames[1:]), refused="animated")
add("animated.gif", lambda f: frames[0].save(f, save_all=True, append_images=frames[1:]), refused="a GIF file")
for kind in ("jpg", "png", "webp"):
    whole = path(f"whole.{kind}")
    Image.fromarray(smooth(50, 60, 3)).save(whole)
    content = open(whole, "rb").read()
    for _ in range(6):
        cut = int(rng.integers(0, len(content) - 13))
        add(f"cut.{kind}", lambda f: open(f, "wb").write(content[:cut]), refused="cut")
add("wrong-name.png", lambda f: frames[0].save(f, "JPEG", quality=95), 1)


def decoded(channels):
    out = subprocess.run([codec, str(channels), *(c[0] for c in cases)], stdout=subprocess.PIPE, check=True).stdout
    at = 0
    for file, *_ in cases:
        (ok,) = struct.unpack_from("<i", out, at)
        if not ok:
            (length,) = struct.unpack_from("<i", out, at + 4)
            yield out[at + 8:at + 8 + length].decode()
            at += 8 + length
            continue
        h, w, c = struct.unpack_from("<iii", out, at + 4)
        yield np.frombuffer(out, np.uint8, h * w * c, at + 16).reshape(h, w, c)
        at += 16 + h * w * c
    if at != len(out):
        sys.exit("more results than files")


def luma(rgb):
    r = rgb.astype(np.uint32)
    return ((19595 * r[..., 0] + 38470 * r[..., 1] + 7471 * r[..., 2] + 0x8000) >> 16).astype(np.uint8)[..., None]


for channels in (3, 1):
    for (file, tolerance, expected, refused), ours in zip(cases, decoded(channels)):
        name = os.path.basename(file)
        if refused is not None:
            if not isinstance(ours, str):
                sys.exit(f"{name}: should have been refused")
            if name not in ours or (refused != "cut" and refused not in ours):
                sys.exit(f"{name}: refused with: {ours}")
            continue
        if isinstance(ours, str):
            sys.exit(f"{name}: refused: {ours}")
        if expected is None:
            theirs = np.asarray(ImageOps.exif_transpose(Image.open(file)).convert("RGB"))
        else:
            theirs = expected
        if channels == 1:
            theirs, tolerance = luma(theirs), max(tolerance, 1 if expected is not None else tolerance) * 2
        if ours.shape != theirs.shape:
            sys.exit(f"{name}: shape {ours.shape}, Pillow has {theirs.shape}")
        difference = np.abs(ours.astype(int) - theirs.astype(int)).max()
        if difference > tolerance:
            sys.exit(f"{name}, {channels} channels: pixels differ by {difference}, more than {tolerance}")
print(f"{len(cases)} files, grey and RGB: all equal to Pillow's, or refused")
