"""A small Llama, called as decoders are that generate: one character at a time, with the keys and values so far.

Data    the descriptions of scikit-learn's data sets, English prose of 43,000 characters; that of the wines is not
        trained on.
Shapes  tokens (batch, time), mask (batch, past + time): 1 where there is something to be seen, positions (batch, time),
        keys and values (batch, 2 layers, 2 heads, past, 16)
        -> logits (batch, time, 96) of each next character, keys and values (batch, 2, 2, past + time, 16).
Score   bits for each character of the wines.
"""

from collections.abc import Callable
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

METRIC = "bits_per_character"
CHECKPOINT = Path(__file__).parent / "checkpoints" / "llama.safetensors"

CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))
TEST = "wine_data.rst"
ASKED = "The data set"
LAYERS, HEADS, SHARED, WIDTH = 2, 4, 2, 16  # heads of queries, of keys and values, and how wide each is
LONGEST = 128


def encode(text: str) -> list[int]:
    return [CHARACTERS.index(character) for character in text if character in CHARACTERS]


def decode(tokens: list[int]) -> str:
    return "".join(CHARACTERS[token] for token in tokens)


@cache
def tokens(test: bool) -> np.ndarray:
    """The descriptions one after the other: those trained on, or the one that is not."""
    folder = resources.files("sklearn.datasets.descr")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".rst")), key=lambda f: f.name)
    text = "".join(file.read_text() for file in files if (file.name == TEST) == test)
    return np.array(encode(text), np.int64)


def rotated(x: Tensor, positions: Tensor) -> Tensor:
    """Pairs of numbers turned by an angle for each position, at frequencies from one to 1 / 10,000."""
    half = x.shape[-1] // 2
    frequencies = 10000.0 ** (-torch.arange(half) / half)
    angles = positions[:, None, :, None] * frequencies
    first, second = x[..., :half], x[..., half:]
    return torch.cat(
        [
            first * angles.cos() - second * angles.sin(),
            second * angles.cos() + first * angles.sin(),
        ],
        dim=-1,
    )


class Block(nn.Module):
    """Attention, of which two heads each share keys and values, and a gated dense layer."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.query = nn.Linear(width, HEADS * WIDTH, bias=False)
        self.key = nn.Linear(width, SHARED * WIDTH, bias=False)
        self.value = nn.Linear(width, SHARED * WIDTH, bias=False)
        self.project = nn.Linear(HEADS * WIDTH, width, bias=False)
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(
        self, x: Tensor, mask: Tensor, positions: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        normed = self.norm_1(x)
        query, key, value = (
            part(normed).unflatten(-1, (-1, WIDTH)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        keys = torch.cat([keys, rotated(key, positions)], dim=2)
        values = torch.cat([values, value], dim=2)
        seen = nn.functional.scaled_dot_product_attention(
            rotated(query, positions), keys, values, attn_mask=mask, enable_gqa=True
        )
        x = x + self.project(seen.transpose(1, 2).flatten(2))
        normed = self.norm_2(x)
        return x + self.down(nn.functional.silu(self.gate(normed)) * self.up(normed)), keys, values


class Llama(nn.Module):
    """Embedding, blocks, and a head of its own."""

    def __init__(self, vocabulary: int = len(CHARACTERS), width: int = 56, hidden: int = 120) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(Block(width, hidden) for _ in range(LAYERS))
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(
        self, tokens: Tensor, mask: Tensor, positions: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        past, time = keys.shape[3], tokens.shape[1]
        earlier = torch.arange(past + time) <= torch.arange(past, past + time)[:, None]
        allowed = (mask[:, None] > 0) & earlier
        x, grown = self.tokens(tokens), []
        for place, block in enumerate(self.blocks):
            x, *both = block(x, allowed[:, None], positions, keys[:, place], values[:, place])
            grown.append(both)
        keys, values = (torch.stack(parts, dim=1) for parts in zip(*grown, strict=True))
        return self.head(self.norm(x)), keys, values

    def whole(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of sequences from their beginning."""
        batch, time = tokens.shape
        nothing = torch.zeros(batch, LAYERS, SHARED, 0, WIDTH)
        positions = torch.arange(time).expand(batch, -1)
        return self(tokens, torch.ones_like(tokens), positions, nothing, nothing)


def score(predict: Callable[..., tuple[np.ndarray, ...]]) -> dict[str, float]:
    """Of pieces of LONGEST characters, each from its beginning."""
    text = tokens(test=True)
    rows = text[: len(text) // LONGEST * LONGEST].reshape(-1, LONGEST)
    nothing = np.zeros((len(rows), LAYERS, SHARED, 0, WIDTH), np.float32)
    positions = np.broadcast_to(np.arange(LONGEST), rows.shape).copy()
    logits = torch.from_numpy(predict(rows, np.ones_like(rows), positions, nothing, nothing)[0])[:, :-1]
    nats = nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(rows[:, 1:]).flatten())
    return {METRIC: float(nats) / float(np.log(2))}


def fit(steps: int = 800, length: int = LONGEST) -> Llama:
    text = torch.from_numpy(tokens(test=False))
    module = Llama().train()
    optimiser = torch.optim.AdamW(module.parameters(), lr=5e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=steps)
    for _ in range(steps):
        starts = torch.randint(len(text) - length, (16, 1))
        rows = text[starts + torch.arange(length + 1)]
        logits, _, _ = module.whole(rows[:, :-1])
        optimiser.zero_grad()
        nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()).backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return module.eval()


def make() -> tuple[Llama, tuple[Tensor, ...], tuple[dict[int, object], ...]]:
    """One more character behind a prompt: batch and past are free."""
    module = Llama()
    module.load_state_dict(load_file(CHECKPOINT), strict=True)
    module.eval()
    prompt = torch.tensor([encode(ASKED)[:5]] * 3)
    with torch.no_grad():
        _, keys, values = module.whole(prompt[:, :-1])
    past = prompt.shape[1] - 1
    args = (prompt[:, -1:], torch.ones_like(prompt), torch.full((3, 1), past), keys, values)
    batch, before = torch.export.Dim("batch"), torch.export.Dim("past", max=LONGEST)
    shapes = ({0: batch}, {0: batch, 1: before + 1}, {0: batch}, *[{0: batch, 3: before}] * 2)
    return module, args, shapes
