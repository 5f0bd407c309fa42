"""Memory and time of large decoders: `python -m benchmarks.large [module|file] [millions of parameters ...]`.

Each size runs in a process of its own: the decoder (GPT-2's form, random weights) is converted without and with its
proof, saved, and loaded. Memory is the peak of anonymous memory above what the process held before, in units of the
weights; beside it, what writing and reading the bytes of the weights once takes.
"""

from __future__ import annotations

from benchmarks.timing import one_thread

one_thread()

import contextlib
import functools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

import bridge

PAUSE = 0.02  # seconds between two looks at the memory
WIDTH, HEADS, VOCABULARY, CONTEXT = 1600, 25, 50257, 1024  # GPT-2 XL's, which has 48 blocks


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = (x.shape[0], x.shape[1], HEADS, WIDTH // HEADS)
        q, k, v = (part.reshape(heads).transpose(1, 2) for part in self.qkv(self.norm(x)).chunk(3, -1))
        seen = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(x.shape))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Decoder(nn.Module):
    """Tokens (batch, time) to logits (batch, time, vocabulary), with tied embeddings."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks, self.norm = nn.ModuleList(Block() for _ in range(blocks)), nn.LayerNorm(WIDTH)
        for table in (self.tokens, self.places):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.tokens.weight.T


def decoder(millions: float) -> Decoder:
    """One of about so many parameters."""
    each, rest = 12 * WIDTH**2, (VOCABULARY + CONTEXT) * WIDTH
    return Decoder(max(1, round((millions * 1e6 - rest) / each))).eval()


def anonymous() -> int:
    """Bytes of memory that belong to this process and to no file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


@contextlib.contextmanager
def watched(name: str, weights: int) -> Iterator[None]:
    """Prints what is done inside takes."""
    before, peak, done = anonymous(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(PAUSE):
            peak[0] = max(peak[0], anonymous())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    start = time.perf_counter()
    yield
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    high, after = (max(0, value - before) / weights for value in (peak[0], anonymous()))
    print(f"{name:32} {seconds:8.1f} s   peak {high:5.2f}   left {after:5.2f}", flush=True)


def measure(kind: str, millions: float) -> None:
    torch.set_num_threads(1)
    bridge.convert(nn.Linear(2, 2), torch.randn(1, 2))  # what is loaded once
    module = decoder(millions)
    weights = sum(value.nbytes for value in module.parameters())
    print(f"{weights / 4e6:.0f} million parameters, {weights / 1e6:.0f} MB, from a {kind}")
    tokens = torch.randint(0, VOCABULARY, (2, 8))
    shapes = ({0: "batch", 1: torch.export.Dim("time", max=CONTEXT)},)
    with TemporaryDirectory() as name:
        folder = Path(name)
        with watched("write the bytes once", weights):
            (folder / "bytes").write_bytes(bytes(weights))
        with watched("read the bytes once", weights):
            (folder / "bytes").read_bytes()
        (folder / "bytes").unlink()
        if kind == "module":
            converted = functools.partial(bridge.convert, module, tokens, dynamic_shapes=shapes)
        else:
            path = folder / "decoder.onnx"
            torch.onnx.export(module, (tokens,), path, dynamic_shapes=shapes, dynamo=True, verbose=False)
            converted = functools.partial(bridge.convert, path)
        del module
        with watched("convert without proof", weights):
            converted(verify=False)
        with watched("convert with proof", weights):
            result = converted()
        with watched("save", weights):
            result.save(folder / "decoder.keras")
        del result, converted
        with watched("load", weights):
            bridge.load(folder / "decoder.keras")


def main(kind: str = "module", *sizes: str) -> None:
    for millions in sizes or ("100", "500"):
        command = [sys.executable, "-m", "benchmarks.large", "one", kind, millions]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        measure(sys.argv[2], float(sys.argv[3]))
    else:
        main(*sys.argv[1:])
