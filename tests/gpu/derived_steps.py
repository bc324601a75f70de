#!/usr/bin/env python3
"""Derives the time of a training step on a GPU from operations and bytes, by class of kernel. Nothing of it was measured with Tutti:
it is what the first measurement is compared with.

Products of GPT-2 124M and attention: measured rates of cuBLASLt (best of 8 algorithms) and cuDNN on an H100 80GB HBM3. Other
products and convolutions: an assumed rate, RATE. All else: the bytes that the kernels move at the rate of a copy, which they reach
by their machine code (tests/gpu/static).
"""

import sys

COPY = {"H100": 3.00e12, "H200": 4.30e12}  # bytes/s, read and written; H200: by the rate of its memory
RATE = 650e12  # FLOP/s in bf16, of products and convolutions without a measured rate

# Seconds of forward, gradient of the input and gradient of the weight of the products of a layer, 65,536 tokens.
LAYER_124M = {"bf16": (339 + 308 + 331 + 125 + 114 + 120 + 579 + 416 + 440 + 442 + 588 + 490) * 1e-6,
              "fp8": (181 + 166 + 175 + 70 + 71 + 68 + 239 + 230 + 244 + 228 + 245 + 228) * 1e-6}
HEAD_124M = {"bf16": 2 * (3.539 + 3.530 + 3.499) * 1e-3, "fp8": 2 * (2.067 + 1.780 + 1.845) * 1e-3}
ATTENTION_S = 1.514e-3 / (64 * 12 * 1024**2 * 64)  # forward and backward, causal, per sequence, head, pair and element


def gpt(copy, layers, width, heads, batch, dtype, products_s, context=1024, vocabulary=50304):
    tokens = batch * context
    activation, logits = tokens * width, tokens * vocabulary
    weights = 12 * layers * width**2 + (vocabulary + context) * width
    fp8 = dtype == "fp8"
    # Bytes an element of an activation, in each layer.
    norms = 2 * (10 if fp8 else 8)  # with the sum of the residual
    norms += 2 * 8  # backward, which adds to the gradient of the residual
    rounding = 4 + 16 + 24 + 12 + 4 + 4 if fp8 else 0  # to fp8: attention's output, activation, and four gradients
    sums = 0 if fp8 else 2 * (3 + 1 + 4 + 1)  # gradients of biases
    return {
        "matrix products": products_s,
        "attention": layers * batch * heads * context**2 * (width // heads) * ATTENTION_S,
        "norms and residual sums": (layers * norms + 8 + 6) * activation / copy,
        "gradients of biases": layers * sums * activation / copy,
        "rounding to fp8": (layers * rounding * activation + (4 * weights if fp8 else 0)) / copy,
        "loss": (6 if fp8 else 4) * logits / copy,
        "embedding": (4 + 4 + 6) * activation / copy,
        "optimizer": 34 * weights / copy,
    }


def resnet50(copy, batch):
    """Channels last in bf16. Backward without a residual computes the mask of ReLU again from x."""
    products = bytes_norm = 0

    def conv(size, inputs, outputs, kernel, stride, first=False):
        nonlocal products
        to = size // stride
        flops = 2 * batch * to**2 * outputs * inputs * kernel**2
        moved = 2 * batch * (size**2 * inputs + to**2 * outputs)
        for _ in range(2 if first else 3):  # forward, gradients of input and weight
            products += max(flops / RATE, moved / copy)
        return to

    def norm(size, channels, relu=True, residual=False):
        nonlocal bytes_norm
        forward = 2 + (6 if residual else 4)
        backward = (8 if residual else 4) + 6
        bytes_norm += (forward + backward) * batch * size**2 * channels

    size = conv(224, 3, 64, 7, 2, first=True)
    norm(size, 64)
    pool = 2 * batch * 64 * (112**2 + 56**2) * 2
    size, inputs = 56, 64
    for stage, (blocks, middle) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            conv(size, inputs, middle, 1, 1)
            norm(size, middle)
            to = conv(size, middle, middle, 3, stride)
            norm(to, middle)
            conv(to, middle, 4 * middle, 1, 1)
            if block == 0:
                conv(size, inputs, 4 * middle, 1, stride)
                norm(to, 4 * middle, relu=False)
            norm(to, 4 * middle, residual=True)
            size, inputs = to, 4 * middle
    return {"convolutions": products, "batch norms": bytes_norm / copy, "pooling": pool / copy,
            "optimizer": 26 * 25.6e6 / copy}


def steps(copy):
    """Name of a recipe -> unit, items of a step, seconds by class."""
    large = 6 * 16 * 1024 * (12 * 48 * 1600**2 + 50304 * 1600) / RATE
    return {
        "GPT-2 124M, bf16, B=64": ("tok/s", 64 * 1024, gpt(copy, 12, 768, 12, 64, "bf16",
                                                            12 * LAYER_124M["bf16"] + HEAD_124M["bf16"])),
        "GPT-2 124M, fp8, B=64": ("tok/s", 64 * 1024, gpt(copy, 12, 768, 12, 64, "fp8",
                                                           12 * LAYER_124M["fp8"] + HEAD_124M["fp8"])),
        "GPT-2 1558M, bf16, B=16": ("tok/s", 16 * 1024, gpt(copy, 48, 1600, 25, 16, "bf16", large)),
        "ResNet-50, bf16, B=256": ("img/s", 256, resnet50(copy, 256)),
    }


def main():
    by_device = {device: steps(copy) for device, copy in COPY.items()}
    print("| step | " + " | ".join(by_device) + f" | ms by class, {next(iter(by_device))} |")
    print("|---|" + "---:|" * len(by_device) + "---|")
    for name, (unit, items, parts) in next(iter(by_device.values())).items():
        totals = {device: sum(of[name][2].values()) for device, of in by_device.items()}
        print(f"| {name} | " + " | ".join(f"{1e3 * t:.0f} ms, {items / t:,.0f} {unit}" for t in totals.values()) + " | "
              + ", ".join(f"{part} {1e3 * seconds:.1f}" for part, seconds in parts.items() if seconds > 0) + " |")


main()
