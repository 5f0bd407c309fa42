"""Seconds to the first token behind a prompt: read at once, and token by token.

python -m benchmarks.prompts [tokens ...]

One Llama-like decoder with its cache (random weights) is converted twice, with one new token and with any number of
them; both generators are asked for one token behind the same four prompts, in turns.
"""

from __future__ import annotations

from benchmarks.timing import medians, one_thread

one_thread()

import sys
from functools import partial

import numpy as np
import torch

import bridge
from bridge.layers import Generator
from models.llama import Llama

BATCH, ROUNDS = 4, 9
WIDTH, HIDDEN = 256, 512


def generator(new: int, max_length: int) -> Generator:
    """That of a decoder which takes one token, or any number of them, behind the others."""
    torch.manual_seed(0)
    module, tokens, past = Llama(width=WIDTH, hidden=HIDDEN).eval(), torch.randint(96, (2, 3 + new)), 3
    with torch.no_grad():
        _, *caches = module.whole(tokens[:, :past])
    positions = torch.arange(past, past + new).expand(2, -1)
    args = (tokens[:, past:], torch.ones_like(tokens), positions, *caches)
    several, cache = {0: "batch", **({1: "time"} if new > 1 else {})}, {0: "batch", 3: "past"}
    mask = {0: "batch", 1: "past + time" if new > 1 else "past + 1"}
    shapes = (several, mask, several, cache, cache)
    return bridge.convert(module, args, dynamic_shapes=shapes).generator(max_length=max_length)


def main(*lengths: str) -> None:
    """Prints a line for each length of prompts."""
    sizes = [int(length) for length in lengths] or [16, 64, 256]
    both = [generator(new, max(sizes) + 1) for new in (1, 2)]
    print(
        f"{'tokens':>6} {'one by one':>12} {'at once':>12} {'ratio':>7}   {BATCH} prompts, max_length {max(sizes) + 1}"
    )
    for size in sizes:
        prompts = np.random.default_rng(0).integers(0, 96, (BATCH, size))
        made = [each.generate(prompts, max_new_tokens=1) for each in both]  # compiled here
        assert all(map(np.array_equal, *made))
        rivals = {
            name: partial(each.generate, prompts, max_new_tokens=1)
            for name, each in zip(("slow", "fast"), both, strict=True)
        }
        slow, fast = medians(rivals, rounds=ROUNDS).values()
        print(f"{size:6} {1e3 * slow:9.1f} ms {1e3 * fast:9.1f} ms {slow / fast:7.1f}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
