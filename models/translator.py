"""Dates as people write them, told as ISO has them: an encoder-decoder of `nn.Transformer`, a character at a time.

Data    days from 1900 to 2099 in five forms of `strftime`, with the names of Python's `calendar`; those of the test
        are days that training did not see.
Shapes  source (batch, time) with 0 where a row is padded, target (batch, time) which begins with 1
        -> logits (batch, time, 46) of each next character.
Score   the share of dates told right, each written to its end.
"""

import calendar
import string
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

METRIC = "dates_right"
CHECKPOINT = Path(__file__).parent / "checkpoints" / "translator.safetensors"

PAD, BEGIN, END = 0, 1, 2
CHARACTERS = "---" + string.digits + string.ascii_lowercase + " ,.-/:"  # three marks first
# The longest of each: "wednesday, 26 september 2096" and "2096-09-26" with both marks
SOURCE, TARGET = 30, 12
ASKED = "wednesday, 26 september 2096"
FIRST, DAYS = date(1900, 1, 1), 73049


def written(day: date, form: int) -> str:
    month, weekday = calendar.month_name[day.month].lower(), calendar.day_name[day.weekday()].lower()
    return (
        f"{day.day} {month} {day.year}",
        f"{month} {day.day}, {day.year}",
        f"{weekday}, {day.day} {month} {day.year}",
        f"{day.day}.{day.month}.{day.year}",
        f"{day.month}/{day.day}/{day.year}",
    )[form]


def encode(text: str) -> list[int]:
    return [CHARACTERS.index(character, 3) for character in text]


def prompt(text: str) -> tuple[list[int], dict[str, np.ndarray]]:
    """The tokens with which a sequence begins, and the model's other inputs."""
    return [BEGIN], {"source": np.array([encode(text)])}


def end() -> int:
    """The token behind which a date ends."""
    return END


def decode(tokens: list[int]) -> str:
    return "".join(CHARACTERS[token] for token in tokens if token > END)


def pairs(count: int, test: bool) -> tuple[np.ndarray, np.ndarray]:
    """Sources (count, SOURCE) and targets (count, TARGET); every tenth day is one of the test."""
    rng = np.random.default_rng(int(test))
    days = rng.integers(DAYS // 10, size=count) * 10 + (0 if test else rng.integers(1, 10, size=count))
    sources, targets = np.zeros((count, SOURCE), np.int64), np.full((count, TARGET), END)
    for row, (place, form) in enumerate(zip(days, rng.integers(5, size=count), strict=True)):
        day = FIRST + timedelta(days=int(place))
        text = encode(written(day, form))
        sources[row, : len(text)] = text
        targets[row] = [BEGIN, *encode(day.isoformat()), END]
    return sources, targets


class Translator(nn.Module):
    """Embeddings of characters and places on either side, `nn.Transformer` between them."""

    def __init__(self, width: int = 48, heads: int = 4, hidden: int = 96) -> None:
        super().__init__()
        self.source, self.target = (nn.Embedding(len(CHARACTERS), width) for _ in range(2))
        self.source_places, self.target_places = nn.Embedding(SOURCE, width), nn.Embedding(TARGET, width)
        self.transformer = nn.Transformer(width, heads, 2, 1, hidden, dropout=0.0, batch_first=True)
        self.head = nn.Linear(width, len(CHARACTERS))

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        padding, time = source == PAD, target.shape[1]
        told = self.transformer(
            self.source(source) + self.source_places(torch.arange(source.shape[1])),
            self.target(target) + self.target_places(torch.arange(time)),
            tgt_mask=nn.Transformer.generate_square_subsequent_mask(time),
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
        )
        return self.head(told)


def score(predict: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> dict[str, float]:
    """Each date told by the likeliest character, one after the other."""
    sources, targets = pairs(200, test=True)
    told = np.full((len(sources), 1), BEGIN)
    for _ in range(TARGET - 1):
        told = np.concatenate([told, predict(sources, told)[:, -1:].argmax(-1)], axis=1)
    return {METRIC: float((told == targets).all(axis=1).mean())}


def fit(steps: int = 2500) -> Translator:
    sources, targets = map(torch.from_numpy, pairs(20000, test=False))
    module = Translator().train()
    optimiser = torch.optim.AdamW(module.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    for _ in range(steps):
        rows = torch.randint(len(sources), (64,))
        logits = module(sources[rows], targets[rows, :-1])
        optimiser.zero_grad()
        nn.functional.cross_entropy(logits.flatten(0, 1), targets[rows, 1:].flatten()).backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return module.eval()


def make() -> tuple[Translator, tuple[Tensor, Tensor], tuple[dict[int, object], ...]]:
    module = Translator()
    module.load_state_dict(load_file(CHECKPOINT), strict=True)
    sources, targets = map(torch.from_numpy, pairs(3, test=True))
    read, told = (torch.export.Dim(n, max=size) for n, size in (("source", SOURCE), ("target", TARGET)))
    return module.eval(), (sources[:, :28], targets[:, :5]), ({0: "batch", 1: read}, {0: "batch", 1: told})
