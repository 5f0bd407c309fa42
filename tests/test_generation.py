"""Sequences from converted decoders, token for token as torch gives them, and what is refused by name."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bridge
import bridge.layers
from bridge.errors import SourceError
from models import char_stream, gpt, llama, translator

LENGTH, STEPS = 40, 24
PROMPTS = {  # of unlike lengths
    "gpt": ["Beautiful is", "Now", "Errors should never"],
    "llama": ["The data set", "A", "It was collected in"],
}


@functools.cache
def converted(name: str) -> bridge.Conversion:
    module, args, shapes = NETWORKS[name].make()
    return bridge.convert(module, args, dynamic_shapes=shapes)


class AtOnce:
    """The Llama as it reads whole prompts: some tokens behind some others."""

    encode = llama.encode

    @staticmethod
    def make() -> tuple[nn.Module, tuple[Tensor, ...], Any]:
        module, (_, mask, _, *_), _ = llama.make()
        tokens, past = torch.tensor([llama.encode(llama.ASKED)[:5]] * 3), 2
        with torch.no_grad():
            _, *caches = module.whole(tokens[:, :past])
        args = (tokens[:, past:], mask, torch.arange(past, 5).expand(3, -1), *caches)
        new, cache = {0: "batch", 1: "time"}, {0: "batch", 3: "past"}
        return module, args, (new, {0: "batch", 1: "past + time"}, new, cache, cache)


NETWORKS: dict[str, Any] = {"gpt": gpt, "llama": llama, "llama at once": AtOnce, "char_stream": char_stream}


def prompts(name: str) -> list[list[int]]:
    if name == "char_stream":
        return [[3, 1, 4], [15], [9, 2, 6, 5]]
    return [NETWORKS[name].encode(text) for text in PROMPTS[name.split()[0]]]


def logits_of(name: str, module: nn.Module, tokens: list[int]) -> Tensor:
    """What torch expects behind `tokens`, all of which it is given."""
    given = torch.tensor([tokens])
    if name.startswith("llama"):
        return module.whole(given)[0][0, -1]
    if name == "char_stream":
        return module(given, *torch.zeros(2, 2, 1, 12))[0][0, -1]
    return module(given)[0, -1]


@torch.no_grad()
def in_torch(
    name: str, rows: list[list[int]], noise: Tensor | None = None, end: int | None = None
) -> list[list[int]]:
    """Each prompt continued by torch: greedily, or as `torch.multinomial` draws by `noise` (steps, rows, vocabulary) at
    temperature 0.7 from the 20 likeliest that have 0.95 together, as `transformers` orders the three."""
    module, _, _ = NETWORKS[name].make()
    made = []
    for place, row in enumerate(rows):
        tokens = list(row)
        for step in range(min(STEPS, LENGTH - len(row))):
            logits = logits_of(name, module, tokens)
            if noise is not None:
                logits = logits / 0.7
                logits = logits.masked_fill(logits < logits.topk(20)[0][-1], -torch.inf)
                ordered, order = logits.sort()
                logits[order[ordered.softmax(-1).cumsum(-1) <= 1 - 0.95]] = -torch.inf
                logits = logits.softmax(-1) / noise[step, place]
            tokens.append(int(logits.argmax()))
            if tokens[-1] == end:
                break
        made.append(tokens)
    return made


@pytest.mark.parametrize("name", NETWORKS)
def test_token_for_token_as_torch(name: str) -> None:
    rows = prompts(name)
    wanted = in_torch(name, rows)
    made = converted(name).generator(max_length=LENGTH).generate(rows, max_new_tokens=STEPS)
    assert [row.tolist() for row in made] == wanted
    assert len({tuple(row[-STEPS:]) for row in wanted}) > 1


@pytest.mark.parametrize("name", ["gpt", "llama", "llama at once"])
def test_decoders_are_native_and_come_back(name: str) -> None:
    result, (module, _, _) = converted(name), NETWORKS[name].make()
    assert result.report.proved
    assert not result.report.custom_layers
    assert result.report.trainable == sum(p.numel() for p in module.parameters())
    state = result.weights.to_torch()
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())


@pytest.mark.parametrize("name", NETWORKS)
def test_drawn_as_torch_draws_and_ended_where_a_token_ends(name: str) -> None:
    rows, result = prompts(name), converted(name)
    settings: dict[str, Any] = {"max_length": LENGTH, "temperature": 0.7, "top_k": 20, "top_p": 0.95}
    generator = result.generator(**settings)
    torch.manual_seed(5)
    noise = torch.stack([torch.empty(len(rows), generator.vocabulary).exponential_() for _ in range(STEPS)])
    wanted = in_torch(name, rows, noise)
    end = wanted[0][len(rows[0]) + 4]
    ended = in_torch(name, rows, noise, end)
    for ends, told in (((), wanted), (end, ended)):
        generator = result.generator(**settings, end=ends)
        made = generator.generate(rows, max_new_tokens=STEPS, noise=noise.numpy())
        assert [row.tolist() for row in made] == told
    assert len(ended[0]) < len(wanted[0])


def test_exponential_noise_is_how_torch_draws() -> None:
    probabilities = torch.tensor([[0.1, 0.4, 0.2, 0.3]] * 500)
    torch.manual_seed(1)
    drawn = torch.multinomial(probabilities, 1)[:, 0]
    torch.manual_seed(1)
    assert torch.equal(drawn, (probabilities / torch.empty(500, 4).exponential_()).argmax(-1))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_an_encoder_decoder_is_given_its_source_beside_the_prompt() -> None:
    module, args, shapes = translator.make()
    result = bridge.convert(module, args, dynamic_shapes=shapes)
    assert result.report.proved
    generator = result.generator(max_length=translator.TARGET, end=translator.END)
    sources, targets = translator.pairs(40, test=True)
    made = generator.generate([[translator.BEGIN]] * len(sources), source=sources)
    told = torch.full((len(sources), 1), translator.BEGIN)
    with torch.no_grad():
        while told.shape[1] < translator.TARGET:
            told = torch.cat([told, module(torch.from_numpy(sources), told)[:, -1:].argmax(-1)], 1)
    assert [row.tolist() for row in made] == told.tolist() == targets.tolist()


def test_a_decoder_that_takes_any_number_of_tokens_reads_prompts_at_once() -> None:
    found = []
    for name in ("llama", "llama at once"):
        generator = converted(name).generator(max_length=LENGTH)
        read, feeds = [], generator.feeds
        generator.feeds = lambda tokens, *rest, read=read, feeds=feeds: (
            read.append(tokens.shape[1]) or feeds(tokens, *rest)
        )
        generator.generate(prompts(name), max_new_tokens=2)
        found.append(read)
    assert found == [[1], [32, 1]]  # as they are traced: prompts of 19 in 32 places, and the step of the loop


class Crossed(nn.Module):
    """A decoder that keeps what it has read, and hands on the source that it looks at."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.head = nn.Embedding(9, 4), nn.Linear(4, 9)

    def forward(self, tokens: Tensor, mask: Tensor, past: Tensor, source: Tensor) -> dict[str, Tensor]:
        size, x = past.shape[1], 3 * self.tokens(tokens)
        past = torch.cat([past, x], 1)
        earlier = torch.arange(past.shape[1]) <= size + torch.arange(x.shape[1])[:, None]
        x = x + nn.functional.scaled_dot_product_attention(x, past, past, (mask[:, None] > 0) & earlier)
        x = x + nn.functional.scaled_dot_product_attention(x, source, source)
        return {"logits": self.head(x), "past": past, "source": source}


def test_what_a_decoder_hands_on_unchanged_is_given_beside_the_prompts() -> None:
    torch.manual_seed(0)
    module, rows, sources = Crossed().eval(), [[1, 2, 3, 4], [5], [6, 7]], torch.randn(3, 5, 4)
    args = torch.ones(2, 3, dtype=torch.int64), torch.ones(2, 5), torch.randn(2, 2, 4), torch.randn(2, 7, 4)
    shapes = tuple({0: "batch", 1: size} for size in ("time", "past + time", "past", "length"))
    generator = bridge.convert(module, args, dynamic_shapes=shapes).generator(max_length=16)
    assert [x.name for x in generator.others] == ["source"]
    made = generator.generate(rows, source=sources.numpy())
    for row, source, found in zip(rows, sources, made, strict=True):
        while len(row) < 16:
            given = torch.tensor([row]), torch.ones(1, len(row)), torch.zeros(1, 0, 4), source[None]
            row = [*row, int(module(*given)["logits"][0, -1].argmax())]
        assert found.tolist() == row


def test_a_seed_draws_the_same_again() -> None:
    generator = converted("gpt").generator(max_length=LENGTH, temperature=1.5)
    one, same, other = (generator.generate(prompts("gpt"), seed=seed) for seed in (1, 1, 2))
    assert all(map(np.array_equal, one, same))
    assert not all(map(np.array_equal, one, other))


def test_padding_on_either_side_is_no_part_of_a_prompt() -> None:
    generator, rows = converted("gpt").generator(max_length=LENGTH), prompts("gpt")
    wanted = generator.generate(rows)
    width = max(map(len, rows))
    left = np.array([[7] * (width - len(row)) + row for row in rows])
    right = np.array([row + [7] * (width - len(row)) for row in rows])
    counts = np.array([[len(row)] for row in rows])
    for padded, mask in ((left, np.arange(width) >= width - counts), (right, np.arange(width) < counts)):
        assert all(map(np.array_equal, generator.generate(padded, mask), wanted))


LOADER = """
import json, sys
import keras, numpy as np
import bridge.layers
for path in sys.argv[1:-1]:
    made = keras.saving.load_model(path).generate(json.loads(sys.argv[-1]), max_new_tokens=8, seed=3)
    print(json.dumps([row.tolist() for row in made]))
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_saved_with_the_model_for_every_backend(backend: str, saved: Path) -> None:
    rows, paths = prompts("gpt"), sorted(saved.glob("*.keras"))
    done = subprocess.run(
        [sys.executable, "-c", LOADER, *map(str, paths), str(rows)],
        capture_output=True, text=True, env=os.environ | {"KERAS_BACKEND": backend},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-len(paths) :] == (saved / "wanted").read_text().splitlines()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, told = tmp_path_factory.mktemp("generators"), []
    for name, temperature in (("gpt", 0.0), ("llama", 1.0), ("llama at once", 1.0)):
        generator = converted(name).generator(max_length=LENGTH, temperature=temperature)
        generator.save(folder / f"{name}.keras")
        loaded = bridge.layers.load_model(folder / f"{name}.keras")
        assert isinstance(loaded, bridge.layers.Generator)
        made = loaded.generate(prompts("gpt"), max_new_tokens=8, seed=3)
        assert all(map(np.array_equal, made, generator.generate(prompts("gpt"), max_new_tokens=8, seed=3)))
        told.append(str([row.tolist() for row in made]))
    (folder / "wanted").write_text("\n".join(told))
    return folder


class Reader(nn.Module):
    """Not causal, or with a cache that nothing hides; small tables."""

    def __init__(self, cached: bool = False) -> None:
        super().__init__()
        self.cached = cached
        self.tokens, self.places, self.head = nn.Embedding(9, 4), nn.Embedding(12, 4), nn.Linear(4, 9)

    def forward(self, tokens: Tensor, past: Tensor | None = None) -> Any:
        x = self.tokens(tokens)
        if past is None:
            x = x + self.places(torch.arange(tokens.shape[1]))
            return self.head(x + x.mean(1, keepdim=True))
        past = torch.cat([past, x], 1)
        return self.head(x + past.mean(1, keepdim=True)), past


class Causal(Reader):
    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.tokens(tokens) + self.places(torch.arange(tokens.shape[1])))


IDS = torch.tensor([[1, 2, 3], [4, 5, 6]])
WHOLE: Any = ({0: "batch", 1: "time"},)
PAST: Any = ({0: "batch"}, {0: "batch", 1: "past"})
NOT_DECODERS: dict[str, tuple[nn.Module, tuple[Tensor, ...], Any, dict[str, Any], str]] = {
    "not causal": (Reader(), (IDS,), WHOLE, {"max_length": 9}, "hangs on the tokens behind it"),
    "beyond its table": (Causal(), (IDS,), WHOLE, {"max_length": 13}, "does not run at 13 tokens: .*12"),
    "of one length": (Causal(), (IDS,), ({0: "batch"},), {"max_length": 9}, "tokens is 3 long and fixed"),
    "a cache that nothing hides": (
        Reader(), (IDS[:, :1], torch.randn(2, 3, 4)), PAST, {"max_length": 9}, "no input that hides the rest",
    ),
    "no logits": (nn.Flatten(), (torch.randn(2, 3),), None, {"max_length": 9}, "which input is the sequence"),
    "too short": (Causal(), (IDS,), WHOLE, {"max_length": 1}, "max_length is 1"),
    "too cold": (Causal(), (IDS,), WHOLE, {"max_length": 9, "temperature": -1}, "temperature is -1"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("module", "args", "shapes", "asked", "told"), NOT_DECODERS.values(), ids=NOT_DECODERS
)
def test_what_is_no_decoder_is_told_why(
    module: nn.Module, args: Any, shapes: Any, asked: dict[str, Any], told: str
) -> None:
    result = bridge.convert(module, args, dynamic_shapes=shapes, verify=False)
    with pytest.raises(SourceError, match=told):
        result.generator(**asked)


@pytest.mark.parametrize(
    ("prompts", "options", "told"),
    [
        ([[]], {}, "prompt 0 is of float64 .0,.: give integers"),
        ([], {}, "there is no prompt"),
        ([[1], [2, 45]], {}, "prompt 1 has the token 45: the decoder knows 0 to 44"),
        ([[1] * 41], {}, "a prompt has 41 tokens, and the generator's max_length is 40"),
        ([[1]], {"mask": np.ones((1, 2))}, r"the mask has the shape \(1, 2\), the prompts have \(1, 1\)"),
        ([[1]], {"source": np.ones((1, 2))}, "beside its tokens the decoder takes nothing; given: source"),
        ([[1]], {"max_new_tokens": 2, "noise": np.ones((2, 2, 45))}, "noise has the shape"),
    ],
)
def test_bad_prompts_are_told_in_a_line(prompts: Any, options: dict[str, Any], told: str) -> None:
    generator = converted("gpt").generator(max_length=LENGTH, temperature=1.0)
    with pytest.raises(SourceError, match=told):
        generator.generate(prompts, **options)
