#!/usr/bin/env python3
"""Compares our GPT-2, Llama and ResNet with forward passes in plain PyTorch in this file: logits, loss and all gradients,
for random weights with the names of Hugging Face and torchvision, which are imported and exported again.

Usage: models_oracle.py path/to/oracle_model_step [seed]
Exits with 1 on a difference, and with 77 without PyTorch.
"""
import json
import math
import os
import random
import struct
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import torch
    import torch.nn.functional as F
except ImportError as error:
    print(f"models_oracle: skipped: this Python has no {error.name}")
    sys.exit(77)

NUMPY = {"F64": np.float64, "F32": np.float32, "I32": np.int32}


def write_file(path, tensors, metadata):
    header, data, at = {"__metadata__": metadata}, [], 0
    for name, tensor in tensors.items():
        array = np.ascontiguousarray(tensor.detach().numpy())
        dtype = {v: k for k, v in NUMPY.items()}[array.dtype.type]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [at, at + array.nbytes]}
        data.append(array.tobytes())
        at += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(data))


def read_file(path):
    raw = open(path, "rb").read()
    size = struct.unpack("<Q", raw[:8])[0]
    tensors = {}
    for name, entry in json.loads(raw[8 : 8 + size]).items():
        if name == "__metadata__":
            continue
        begin, end = (8 + size + offset for offset in entry["data_offsets"])
        array = np.frombuffer(raw[begin:end], NUMPY[entry["dtype"]]).reshape(entry["shape"])
        tensors[name] = torch.from_numpy(array.copy())
    return tensors


def attend(q, k, v):
    """Causal attention of (B, heads, T, D) with as many or fewer heads of keys and values."""
    repeats = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(repeats, dim=1) for x in (k, v))
    t = q.shape[2]
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[3])
    scores = scores.masked_fill(torch.ones(t, t, dtype=torch.bool).triu(1), -math.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


def heads(x, count):
    return x.unflatten(2, (count, -1)).transpose(1, 2)


class Gpt2:
    def __init__(self, rng):
        self.layers, self.heads, self.context = rng.randrange(1, 4), rng.choice([1, 3, 4]), rng.randrange(5, 20)
        self.width, self.vocabulary = self.heads * rng.choice([5, 8]), rng.randrange(20, 70)
        self.section = {"kind": "gpt", "recipe": "gpt2", "layers": self.layers, "heads": self.heads,
                        "context": self.context, "width": self.width, "vocabulary": self.vocabulary}

    def shapes(self):
        c = self.width
        yield "transformer.wte.weight", (self.vocabulary, c)
        yield "transformer.wpe.weight", (self.context, c)
        for i in range(self.layers):
            p = f"transformer.h.{i}."
            for name, shape in (("ln_1", (c,)), ("attn.c_attn", (c, 3 * c)), ("attn.c_proj", (c, c)), ("ln_2", (c,)),
                                ("mlp.c_fc", (c, 4 * c)), ("mlp.c_proj", (4 * c, c))):
                yield f"{p}{name}.weight", shape
                yield f"{p}{name}.bias", shape[-1:]
        yield "transformer.ln_f.weight", (c,)
        yield "transformer.ln_f.bias", (c,)

    def inputs(self):
        return torch.randint(self.vocabulary, (3, self.context - 2), dtype=torch.int32)

    def targets(self, inputs):
        targets = torch.randint(self.vocabulary, inputs.shape, dtype=torch.int32)
        targets[0, 1] = -1
        return targets

    def logits(self, w, tokens, training):
        def conv1d(x, name):
            return x @ w[name + ".weight"] + w[name + ".bias"]

        def norm(x, name):
            return F.layer_norm(x, (self.width,), w[name + ".weight"], w[name + ".bias"], 1e-5)

        x = w["transformer.wte.weight"][tokens.long()] + w["transformer.wpe.weight"][: tokens.shape[1]]
        for i in range(self.layers):
            p = f"transformer.h.{i}."
            q, k, v = (heads(y, self.heads) for y in conv1d(norm(x, p + "ln_1"), p + "attn.c_attn").chunk(3, dim=2))
            x = x + conv1d(attend(q, k, v), p + "attn.c_proj")
            h = conv1d(norm(x, p + "ln_2"), p + "mlp.c_fc")
            h = 0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
            x = x + conv1d(h, p + "mlp.c_proj")
        return norm(x, "transformer.ln_f") @ w["transformer.wte.weight"].t()


class Llama:
    def __init__(self, rng):
        self.layers, self.kv_heads, self.context = rng.randrange(1, 4), rng.choice([1, 2]), rng.randrange(5, 20)
        self.heads = self.kv_heads * rng.choice([1, 3])
        self.width, self.vocabulary = self.heads * rng.choice([6, 8]), rng.randrange(20, 70)
        self.hidden, self.base, self.tied = rng.randrange(10, 50), rng.choice([10000.0, 500000.0]), rng.random() < 0.5
        self.section = {"kind": "gpt", "recipe": "llama", "layers": self.layers, "heads": self.heads,
                        "kv_heads": self.kv_heads, "context": self.context, "width": self.width,
                        "vocabulary": self.vocabulary, "hidden": self.hidden, "rotary_base": self.base,
                        "tied": self.tied, "norm_eps": 1e-6}

    def shapes(self):
        c, kv = self.width, self.width // self.heads * self.kv_heads
        yield "model.embed_tokens.weight", (self.vocabulary, c)
        for i in range(self.layers):
            p = f"model.layers.{i}."
            yield p + "input_layernorm.weight", (c,)
            yield p + "self_attn.q_proj.weight", (c, c)
            yield p + "self_attn.k_proj.weight", (kv, c)
            yield p + "self_attn.v_proj.weight", (kv, c)
            yield p + "self_attn.o_proj.weight", (c, c)
            yield p + "post_attention_layernorm.weight", (c,)
            yield p + "mlp.gate_proj.weight", (self.hidden, c)
            yield p + "mlp.up_proj.weight", (self.hidden, c)
            yield p + "mlp.down_proj.weight", (c, self.hidden)
        yield "model.norm.weight", (c,)
        if not self.tied:
            yield "lm_head.weight", (self.vocabulary, c)

    inputs = Gpt2.inputs
    targets = Gpt2.targets

    def logits(self, w, tokens, training):
        def norm(x, name):
            return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * w[name + ".weight"]

        def rotate(x):  # transformers' rotate_half
            half = x.shape[-1] // 2
            frequencies = self.base ** (-torch.arange(half, dtype=x.dtype) / half)
            angles = torch.arange(x.shape[2], dtype=x.dtype)[:, None] * frequencies
            cos, sin = (torch.cat([y, y], dim=1) for y in (angles.cos(), angles.sin()))
            return x * cos + torch.cat([-x[..., half:], x[..., :half]], dim=-1) * sin

        x = w["model.embed_tokens.weight"][tokens.long()]
        for i in range(self.layers):
            p = f"model.layers.{i}."
            h = norm(x, p + "input_layernorm")
            q = heads(h @ w[p + "self_attn.q_proj.weight"].t(), self.heads)
            k = heads(h @ w[p + "self_attn.k_proj.weight"].t(), self.kv_heads)
            v = heads(h @ w[p + "self_attn.v_proj.weight"].t(), self.kv_heads)
            x = x + attend(rotate(q), rotate(k), v) @ w[p + "self_attn.o_proj.weight"].t()
            h = norm(x, p + "post_attention_layernorm")
            h = F.silu(h @ w[p + "mlp.gate_proj.weight"].t()) * (h @ w[p + "mlp.up_proj.weight"].t())
            x = x + h @ w[p + "mlp.down_proj.weight"].t()
        head = w["model.embed_tokens.weight" if self.tied else "lm_head.weight"]
        return norm(x, "model.norm") @ head.t()


class ResNet:
    def __init__(self, depth, stem, rng):
        self.depth, self.stem = depth, stem
        self.base, self.channels, self.classes = rng.randrange(2, 6), rng.choice([1, 3]), rng.randrange(2, 12)
        self.size = (rng.randrange(40, 50), rng.randrange(33, 40)) if stem == "imagenet" else (rng.randrange(9, 20), 17)
        self.blocks = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}[depth]
        self.expansion = 4 if depth == 50 else 1
        self.section = {"kind": "resnet", "depth": depth, "stem": stem, "base_filters": self.base,
                        "channels": self.channels, "classes": self.classes, "height": self.size[0],
                        "width": self.size[1]}

    def units(self):
        """(name, inputs, width, stride) of the blocks."""
        inputs = self.base
        for stage, count in enumerate(self.blocks):
            width = self.base * 2**stage
            for i in range(count):
                yield f"layer{stage + 1}.{i}.", inputs, width, 2 if stage > 0 and i == 0 else 1
                inputs = width * self.expansion

    def convs(self, inputs, width, stride):
        """(inputs, outputs, kernel, stride) of a block's convolutions."""
        if self.expansion == 1:
            return [(inputs, width, 3, stride), (width, width, 3, 1)]
        return [(inputs, width, 1, 1), (width, width, 3, stride), (width, 4 * width, 1, 1)]

    def shapes(self):
        def norm(name, channels):
            for part in ("weight", "bias", "running_mean", "running_var"):
                yield f"{name}.{part}", (channels,)

        kernel = 7 if self.stem == "imagenet" else 3
        yield "conv1.weight", (self.base, self.channels, kernel, kernel)
        yield from norm("bn1", self.base)
        for name, inputs, width, stride in self.units():
            for i, (a, b, k, _) in enumerate(self.convs(inputs, width, stride)):
                yield f"{name}conv{i + 1}.weight", (b, a, k, k)
                yield from norm(f"{name}bn{i + 1}", b)
            if stride != 1 or inputs != width * self.expansion:
                yield f"{name}downsample.0.weight", (width * self.expansion, inputs, 1, 1)
                yield from norm(f"{name}downsample.1", width * self.expansion)
        yield "fc.weight", (self.classes, self.base * 8 * self.expansion)
        yield "fc.bias", (self.classes,)

    def inputs(self):
        return torch.randn(3, *self.size, self.channels)

    def targets(self, inputs):
        return torch.randint(self.classes, (inputs.shape[0],), dtype=torch.int32)

    def logits(self, w, images, training):
        def norm(x, name):
            return F.batch_norm(x, w[name + ".running_mean"], w[name + ".running_var"], w[name + ".weight"],
                                w[name + ".bias"], training, 0.1, 1e-5)

        stride = 1 if self.stem == "small" else 2
        x = F.conv2d(images.permute(0, 3, 1, 2), w["conv1.weight"], stride=stride,
                     padding=w["conv1.weight"].shape[2] // 2)
        x = F.relu(norm(x, "bn1"))
        if self.stem == "imagenet":
            x = F.max_pool2d(x, 3, 2, 1)
        for name, inputs, width, unit_stride in self.units():
            skip, convs = x, self.convs(inputs, width, unit_stride)
            for i, (_, _, k, s) in enumerate(convs):
                x = norm(F.conv2d(x, w[f"{name}conv{i + 1}.weight"], stride=s, padding=k // 2), f"{name}bn{i + 1}")
                if i + 1 < len(convs):
                    x = F.relu(x)
            if f"{name}downsample.0.weight" in w:
                skip = norm(F.conv2d(skip, w[f"{name}downsample.0.weight"], stride=unit_stride), f"{name}downsample.1")
            x = F.relu(x + skip)
        return x.mean((2, 3)) @ w["fc.weight"].t() + w["fc.bias"]


def random_weights(model, dtype):
    weights = {}
    for name, shape in model.shapes():
        if name.endswith("running_var"):
            weights[name] = torch.rand(shape, dtype=dtype) + 0.5
        elif len(shape) == 1:
            weights[name] = torch.randn(shape, dtype=dtype) * 0.2 + (0 if name.endswith(("bias", "mean")) else 1)
        else:
            fan_in = shape[0] if ".c_" in name else int(np.prod(shape[1:]))
            weights[name] = torch.randn(shape, dtype=dtype) / math.sqrt(fan_in)
    return weights


def worst(ours, theirs, least):
    return float((ours - theirs).abs().max() / max(theirs.abs().max(), least))


def compare(program, model, dtype, bound):
    weights = random_weights(model, dtype)
    inputs = model.inputs()
    targets = model.targets(inputs)
    with tempfile.TemporaryDirectory() as folder:
        source, result = os.path.join(folder, "in.safetensors"), os.path.join(folder, "out.safetensors")
        extra = {"fc.num_batches_tracked": torch.zeros((), dtype=torch.int32)} if isinstance(model, ResNet) else {}
        write_file(source, {**weights, **extra, "inputs": inputs, "targets": targets},
                   {"model": json.dumps(model.section), "dtype": "fp64" if dtype == torch.float64 else "fp32"})
        subprocess.run([program, source, result], check=True)
        ours = read_file(result)

    inputs = inputs.to(dtype) if inputs.is_floating_point() else inputs
    expected = {"logits": model.logits(weights, inputs, False)}
    leaves = {name: tensor.clone() for name, tensor in weights.items()}
    for name, leaf in leaves.items():
        leaf.requires_grad_("running" not in name)
    logits = model.logits(leaves, inputs, True)
    loss = F.cross_entropy(logits.flatten(0, -2), targets.flatten().long(), ignore_index=-1)
    loss.backward()
    expected["loss"] = loss.detach()
    for name, tensor in weights.items():
        expected["weight " + name] = tensor
        # The contribution of this batch to PyTorch's running average.
        expected["gradient " + name] = (leaves[name] - 0.9 * tensor) / 0.1 if "running" in name else leaves[name].grad
    assert ours.keys() == expected.keys(), sorted(ours.keys() ^ expected.keys())
    failures = 0
    largest = 0
    # Gradients of shifts that a following batch norm removes are only rounding errors: compared relative to the others.
    gradients = [t.abs().max() for name, t in expected.items() if name.startswith("gradient") and "running" not in name]
    scale = 1e-3 * float(max(gradients))
    for name in expected:
        assert ours[name].shape == expected[name].shape, (name, ours[name].shape, expected[name].shape)
        least = scale if name.startswith("gradient") else 1e-12
        difference = worst(ours[name].double(), expected[name].double(), least)
        allowed = 0 if name.startswith("weight") else bound
        largest = max(largest, difference)
        if not difference <= allowed:
            print(f"  {name}: differs by {difference:.3g} of its largest element, allowed {allowed:.3g}")
            failures += 1
    print(f"{type(model).__name__} {model.section} {dtype}: {len(expected)} tensors, largest difference {largest:.2g}")
    return failures


def main():
    program = sys.argv[1]
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(1 << 31)
    print(f"seed {seed}")
    rng = random.Random(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    failures = 0
    for dtype, bound in ((torch.float64, 1e-9), (torch.float32, 2e-3)):
        models = [Gpt2(rng), Gpt2(rng), Llama(rng), Llama(rng), Llama(rng), ResNet(18, "small", rng),
                  ResNet(34, "small_strided", rng), ResNet(50, "imagenet", rng)]
        for model in models:
            # In fp32, rounding may change the sign of an activation near zero at a ReLU: then repeated with other weights,
            # for which a real error appears again.
            tries = 3 if dtype == torch.float32 and isinstance(model, ResNet) else 1
            wrong = 1
            while wrong and tries:
                wrong = compare(program, model, dtype, bound)
                tries -= 1
            failures += wrong
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
