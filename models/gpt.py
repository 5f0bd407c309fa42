"""A small GPT: it knows the Zen of Python by heart, a character at a time.

Data    `this`, the poem in Python's standard library: 857 characters.
Shapes  tokens (batch, time) of at most 96 -> logits (batch, time, 45) of each next character.
Score   the share of the poem's characters that the model tells from the line before them.
"""

import codecs
import contextlib
import io
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

METRIC = "characters_right"
CHECKPOINT = Path(__file__).parent / "checkpoints" / "gpt.safetensors"

CONTEXT = 96
ASKED = "Beautiful is"


@cache
def poem() -> str:
    with contextlib.redirect_stdout(io.StringIO()):  # which it is written to when imported
        import this
    return codecs.decode(this.s, "rot13") + "\n"


@cache
def characters() -> str:
    return "".join(sorted(set(poem())))


def encode(text: str) -> list[int]:
    return [characters().index(character) for character in text]


def prompt(text: str) -> tuple[list[int], dict[str, np.ndarray]]:
    """The tokens with which a sequence begins, and the model's other inputs, of which there are none."""
    return encode(text), {}


def end() -> int:
    """The token behind which a line ends."""
    return characters().index("\n")


def decode(tokens: list[int]) -> str:
    return "".join(characters()[token] for token in tokens)


class Block(nn.Module):
    """Attention to what came before and two dense layers, each added to what it reads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1 = nn.LayerNorm(width)
        self.attend = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.attend(self.norm_1(x)).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        seen = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.project(seen.transpose(1, 2).flatten(2))
        return x + self.contract(nn.functional.gelu(self.expand(self.norm_2(x)), approximate="tanh"))


class Gpt(nn.Module):
    """Embeddings of characters and places, blocks, and the first embedding as a product."""

    def __init__(self, vocabulary: int = 45, width: int = 40, heads: int = 4, blocks: int = 2) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(CONTEXT, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return nn.functional.linear(self.norm(x), self.tokens.weight)


def windows(step: int = 1) -> np.ndarray:
    """The poem in windows (n, CONTEXT + 1)."""
    text = np.array(encode(poem()), np.int64)
    return np.lib.stride_tricks.sliding_window_view(text, CONTEXT + 1)[::step].copy()


def score(predict: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
    """Of the second halves of windows, which have a line or two before them."""
    rows, half = windows(CONTEXT // 2), CONTEXT // 2
    told = predict(rows[:, :-1])[:, half:].argmax(-1)
    return {METRIC: float((told == rows[:, half + 1 :]).mean())}


def fit(steps: int = 3000) -> Gpt:
    rows = torch.from_numpy(windows())
    module = Gpt().train()
    nn.init.normal_(module.tokens.weight, std=0.1)
    optimiser = torch.optim.AdamW(module.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    for _ in range(steps):
        starts = torch.randint(len(rows), (8,))
        length = int(torch.randint(CONTEXT // 4, CONTEXT + 1, ()))
        batch = rows[starts, : length + 1]
        loss = nn.functional.cross_entropy(module(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return module.eval()


def make() -> tuple[Gpt, tuple[Tensor], tuple[dict[int, object]]]:
    module = Gpt()
    module.load_state_dict(load_file(CHECKPOINT), strict=True)
    length = torch.export.Dim("time", max=CONTEXT)
    return module.eval(), (torch.tensor([encode(ASKED)] * 3),), ({0: "batch", 1: length},)
