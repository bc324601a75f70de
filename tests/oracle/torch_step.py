#!/usr/bin/env python3
"""Times the training step of PyTorch for comparison with `tutti bench step`: on the CPU with DDP over Gloo, or on one GPU.

The model, the batch and the arithmetic are those of the recipe named by --model; on the CPU each rank is a process with
--threads threads. Prints one JSON line: model, device, ranks, threads, dtype, items_per_s (tokens or images), step_s
(median), peak_memory_bytes (largest rank; on a GPU that of tensors) and final loss.
"""
import argparse
import json
import math
import os
import resource
import statistics
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn as nn
import torch.nn.functional as F


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x, mask):
        b, t, c = x.shape
        q, k, v = self.qkv(self.norm1(x)).split(c, dim=2)
        q, k, v = (y.view(b, t, self.heads, c // self.heads).transpose(1, 2) for y in (q, k, v))
        if hasattr(F, "scaled_dot_product_attention"):
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.shape[-1]))
            y = F.softmax(scores.masked_fill(mask[:t, :t], float("-inf")), dim=-1) @ v
        x = x + self.proj(y.transpose(1, 2).reshape(b, t, c))
        gelu = F.gelu(self.up(self.norm2(x)), approximate="tanh")
        return x + self.down(gelu)


class Gpt(nn.Module):
    def __init__(self, layers, width, heads, context, vocabulary):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.mask = torch.ones(context, context, dtype=torch.bool).triu(1)  # not a buffer: Gloo does not send booleans
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.02)

    def forward(self, tokens, targets):
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x, self.mask)
        logits = self.norm(x) @ self.tokens.weight.t()
        return F.cross_entropy(logits.view(-1, logits.shape[-1]).float(), targets.view(-1))


class LlamaBlock(nn.Module):
    """RMS norm, rotary positions, grouped queries, SwiGLU, no biases."""

    def __init__(self, width, heads, kv_heads, hidden):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, width // heads
        self.norm1 = nn.RMSNorm(width, eps=1e-5)
        self.qkv = nn.Linear(width, (heads + 2 * kv_heads) * self.head_dim, bias=False)
        self.proj = nn.Linear(width, width, bias=False)
        self.norm2 = nn.RMSNorm(width, eps=1e-5)
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x, cos, sin):
        b, t, c = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, -1, self.head_dim).transpose(1, 2).split(
            [self.heads, self.kv_heads, self.kv_heads], dim=1)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.proj(y.transpose(1, 2).reshape(b, t, c))
        gate, up = self.gate_up(self.norm2(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


def rotate(x, cos, sin):
    """Rotary positions of both halves of a head: x (B, H, T, D), cos and sin (T, D)."""
    first, second = x.chunk(2, dim=-1)
    return (x * cos + torch.cat((-second, first), dim=-1) * sin).to(x.dtype)


class Llama(nn.Module):
    def __init__(self, layers, width, heads, kv_heads, hidden, context, vocabulary):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(LlamaBlock(width, heads, kv_heads, hidden) for _ in range(layers))
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.head = nn.Linear(width, vocabulary, bias=False)
        head_dim = width // heads
        frequency = 10000.0 ** (-torch.arange(0, head_dim, 2) / head_dim)
        angle = torch.outer(torch.arange(context), frequency)
        self.cos, self.sin = torch.cat((angle, angle), 1).cos(), torch.cat((angle, angle), 1).sin()
        nn.init.normal_(self.tokens.weight, std=0.02)

    def forward(self, tokens, targets):
        x = self.tokens(tokens)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.view(-1, logits.shape[-1]).float(), targets.view(-1))


class BasicBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.down = None
        if stride != 1 or inputs != outputs:
            self.down = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        skip = x if self.down is None else self.down(x)
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + skip)


class Bottleneck(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.down = None
        if stride != 1 or inputs != 4 * width:
            self.down = nn.Sequential(nn.Conv2d(inputs, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width))

    def forward(self, x):
        skip = x if self.down is None else self.down(x)
        y = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return F.relu(self.bn3(self.conv3(y)) + skip)


class ResNet50(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        layers = [nn.Conv2d(channels, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        inputs = 64
        for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
            for i in range(blocks):
                layers.append(Bottleneck(inputs, width, stride if i == 0 else 1))
                inputs = 4 * width
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(inputs, classes)

    def forward(self, images, targets):
        logits = self.head(self.features(images).mean((2, 3)))
        return F.cross_entropy(logits.float(), targets, label_smoothing=0.1)


class ResNet18(nn.Module):
    """ResNet-18 with the 3x3 stem for images of 28 and 32 pixels."""

    def __init__(self, channels, classes):
        super().__init__()
        layers = [nn.Conv2d(channels, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
        inputs = 64
        for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            layers += [BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1)]
            inputs = outputs
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(512, classes)

    def forward(self, images, targets):
        return F.cross_entropy(self.head(self.features(images).mean((2, 3))).float(), targets)


def rank_main(rank, options, result):
    torch.set_num_threads(options.threads)
    if len(os.sched_getaffinity(0)) >= options.ranks * options.threads:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[rank * options.threads : (rank + 1) * options.threads])
    torch.manual_seed(0)
    if options.ranks > 1:
        dist.init_process_group("gloo", rank=rank, world_size=options.ranks)
    local = options.batch // options.ranks
    on_gpu = options.device == "cuda"
    if on_gpu:
        torch.cuda.set_device(0)
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    if options.model == "gpt":
        model = Gpt(options.layers, options.width, options.heads, options.context, options.vocabulary)
        x = torch.randint(options.vocabulary, (local, options.context))
        y = torch.randint(options.vocabulary, (local, options.context))
        items = options.batch * options.context
    elif options.model == "llama":
        model = Llama(options.layers, options.width, options.heads, options.kv_heads, options.hidden, options.context,
                      options.vocabulary)
        x = torch.randint(options.vocabulary, (local, options.context))
        y = torch.randint(options.vocabulary, (local, options.context))
        items = options.batch * options.context
    elif options.model == "resnet50":
        model = ResNet50(3, 1000).to(memory_format=torch.channels_last)
        x = torch.randn(local, 3, 224, 224).to(memory_format=torch.channels_last)
        y = torch.randint(1000, (local,))
        items = options.batch
    else:
        model = ResNet18(1, 10).to(memory_format=torch.channels_last)
        x = torch.randn(local, 1, 28, 28).to(memory_format=torch.channels_last)
        y = torch.randint(10, (local,))
        items = options.batch
    if on_gpu:
        model, x, y = model.cuda(), x.cuda(), y.cuda()
        if options.model == "gpt":
            model.mask = model.mask.cuda()
        elif options.model == "llama":
            model.cos, model.sin = model.cos.cuda(), model.sin.cuda()
    if options.ranks > 1:
        model = nn.parallel.DistributedDataParallel(model)
    run = torch.compile(model) if options.compile else model
    if options.model in ("gpt", "llama"):
        fused = {"fused": True} if on_gpu else {}
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, **fused)
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    times = []
    loss = None
    for step in range(options.warmup + options.steps):
        if on_gpu:
            torch.cuda.synchronize()
        begin = time.perf_counter()
        with torch.autocast(options.device, dtype=torch.bfloat16, enabled=options.dtype == "bf16"):
            loss = run(x, y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if options.model in ("gpt", "llama"):
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if on_gpu:
            torch.cuda.synchronize()
        if step >= options.warmup:
            times.append(time.perf_counter() - begin)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if on_gpu:
        memory = torch.cuda.max_memory_allocated()
    result.put((statistics.median(times), items, memory, loss.item()))
    if options.ranks > 1:
        dist.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["gpt", "llama", "resnet18", "resnet50"], default="gpt")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="cuda: one rank on the first GPU")
    parser.add_argument("--compile", action="store_true", help="with torch.compile")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--kv-heads", type=int, default=2, help="of llama")
    parser.add_argument("--hidden", type=int, default=768, help="width inside the feed-forward layer of llama")
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=4096)
    options = parser.parse_args()
    if options.device == "cuda":
        options.ranks = 1
        if not torch.cuda.is_available():
            parser.error(f"PyTorch {torch.__version__} finds no GPU")
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29533")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    context = mp.get_context("spawn")
    result = context.SimpleQueue()
    processes = mp.spawn(rank_main, args=(options, result), nprocs=options.ranks, join=False)
    while not processes.join():  # raises the exception of a rank
        pass
    rows = [result.get() for _ in range(options.ranks)]
    step_s = max(row[0] for row in rows)
    print(json.dumps({"peer": f"PyTorch {torch.__version__}", "model": options.model, "device": options.device, "ranks": options.ranks,
                      "threads": options.threads, "dtype": options.dtype, "items_per_s": rows[0][1] / step_s,
                      "step_s": step_s, "peak_memory_bytes": max(row[2] for row in rows), "loss": rows[0][3]}))


if __name__ == "__main__":
    main()
