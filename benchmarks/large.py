"""Memory and time of large decoders: `python -m benchmarks.large [module|file|inside] [millions of parameters ...]`.

The decoder (GPT-2's form, random weights) is converted and saved, converted with its proof, and loaded, each in a
process of its own: from a module, a file with its weights beside it, or one with them inside. Memory is the peak of
anonymous memory above what the process held before, in units of the weights; beside it, what writing and reading the
bytes of the weights once takes.
"""

from __future__ import annotations

from benchmarks.timing import one_thread

one_thread()

import contextlib
import gc
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
TOKENS = torch.randint(0, VOCABULARY, (2, 8))
SHAPES = ({0: "batch", 1: torch.export.Dim("time", max=CONTEXT)},)


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
    gc.collect()
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
    gc.collect()
    high, after = (max(0, value - before) / weights for value in (peak[0], anonymous()))
    print(f"{name:32} {seconds:8.1f} s   peak {high:5.2f}   left {after:5.2f}", flush=True)


def convert(source: nn.Module | Path, verify: bool) -> bridge.Conversion:
    if isinstance(source, Path):
        return bridge.convert(source, verify=verify)
    return bridge.convert(source, TOKENS, dynamic_shapes=SHAPES, verify=verify)


def measure(step: str, kind: str, millions: float, folder: Path) -> None:
    torch.set_num_threads(1)
    bridge.convert(nn.Linear(2, 2), torch.randn(1, 2))  # what is loaded once
    module = decoder(millions)
    weights = sum(value.nbytes for value in module.parameters())
    source: nn.Module | Path = module
    if kind != "module":
        source = folder / "decoder.onnx"
        if not source.exists():
            torch.onnx.export(
                module, (TOKENS,), source, dynamic_shapes=SHAPES, dynamo=True, verbose=False,
                external_data=kind == "file",
            )  # fmt: skip
    del module
    match step:
        case "convert":
            print(f"{weights / 4e6:.0f} million parameters, {weights / 1e6:.0f} MB, from a {kind}")
            with watched("write the bytes once", weights):
                (folder / "bytes").write_bytes(bytes(weights))
            with watched("read the bytes once", weights):
                (folder / "bytes").read_bytes()
            (folder / "bytes").unlink()
            with watched("convert without proof", weights):
                result = convert(source, verify=False)
            with watched("save", weights):
                result.save(folder / "decoder.keras")
        case "prove":
            with watched("convert with proof", weights):
                convert(source, verify=True)
        case "load":
            del source
            with watched("load", weights):
                bridge.load(folder / "decoder.keras")


def main(kind: str = "module", *sizes: str) -> None:
    for millions in sizes or ("100", "500"):
        with TemporaryDirectory() as folder:
            for step in ("convert", "prove", "load"):
                command = [sys.executable, "-m", "benchmarks.large", "one", step, kind, millions, folder]
                subprocess.run(command, check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        measure(sys.argv[2], sys.argv[3], float(sys.argv[4]), Path(sys.argv[5]))
    else:
        main(*sys.argv[1:])
