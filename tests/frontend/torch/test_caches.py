"""Objects that hold tensors, as decoders' caches do: given, asked for, and given unasked."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bridge

BATCH, TIME, WIDTH = 2, 3, 4


class Layer:
    """Keys and values so far, which are there once something has been added."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None
        self.used = False
        self.calls = 0  # on which nothing hangs

    def add(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        self.keys = keys if self.keys is None else torch.cat([self.keys, keys], 1)
        self.values = values if self.values is None else torch.cat([self.values, values], 1)
        self.used = True
        self.calls += 1
        return self.keys, self.values


class Other(Layer):
    """As a layer that slides beside those that do not."""


class Counting(Layer):
    """What it gives hangs on how many tokens it has seen, by a number."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def add(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        self.seen += keys.shape[1]
        keys, values = super().add(keys, values)
        return keys, values / self.seen


class Cache:
    def __init__(self, kind: type[Layer] = Layer) -> None:
        self.kind = kind
        self.layers: list[Layer] = []

    def layer(self, number: int) -> Layer:
        while len(self.layers) <= number:
            self.layers.append(self.kind())
        return self.layers[number]


class Decoder(nn.Module):
    """Two layers of attention to everything so far."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(WIDTH, 2 * WIDTH)

    def forward(self, x: Tensor, cache: Cache | None = None, use_cache: bool = True) -> dict[str, Any]:
        if use_cache and cache is None:
            cache = Cache()
        for place in range(2):
            keys, values = self.project(x).chunk(2, -1)
            if cache is not None:
                keys, values = cache.layer(place).add(keys, values)
            x = (x @ keys.transpose(1, 2)).softmax(-1) @ values
        return {"y": x, **({} if cache is None else {"cache": cache})}


def test_a_cache_that_nobody_asked_for_is_switched_off() -> None:
    result = bridge.convert(Decoder(), torch.randn(1, TIME, WIDTH))
    assert result.report.proved
    assert len(result.model.inputs) == len(result.model.outputs) == 1
    assert any("use_cache=False" in note for note in result.report.notes)


LAYERS = [f"cache_layers_{place}_{part}" for place in range(2) for part in ("keys", "values")]


def past(length: int, kind: type[Layer] = Layer) -> Cache:
    cache = Cache(kind)
    for place in range(2):
        cache.layer(place).add(*torch.randn(2, BATCH, length, WIDTH))
    return cache


@pytest.mark.parametrize(
    ("kwargs", "inputs"),
    [({"use_cache": True}, ["x"]), ({"cache": past(2)}, ["x", *LAYERS])],
    ids=["asked for", "given"],
)
def test_the_tensors_of_a_cache_have_names(kwargs: dict[str, Any], inputs: list[str]) -> None:
    result = bridge.convert(Decoder(), torch.randn(BATCH, TIME, WIDTH), kwargs)
    assert result.report.proved
    assert [x.name for x in result.model.inputs] == inputs
    layers = result.model.output["cache"]["layers"]
    assert [sorted(layer) for layer in layers] == [["keys", "values"]] * 2


def test_a_cache_of_other_layers_than_one_before() -> None:
    for kind in (Layer, Other):
        found = bridge.inspect(Decoder(), torch.randn(BATCH, TIME, WIDTH), {"cache": past(2, kind)}).inputs
        assert [x.name for x in found] == ["x", *LAYERS]


def test_a_cache_that_counts_in_a_number_is_refused() -> None:
    says = (
        r"Decoder counts in cache.layers\[0\].seen \(from 2 to 5\), a number, .*: give a cache that counts by"
    )
    with pytest.raises(bridge.SourceError, match=says):
        bridge.convert(Decoder(), torch.randn(BATCH, TIME, WIDTH), {"cache": past(2, Counting)})


def test_one_dict_names_the_free_axes_of_a_whole_cache_and_a_switch_needs_none() -> None:
    kwargs = {"cache": past(2), "use_cache": True}
    batch, before = torch.export.Dim("batch"), torch.export.Dim("past")
    shapes = {"x": {0: batch}, "cache": {0: batch, 1: before}}
    found = bridge.inspect(Decoder(), torch.randn(BATCH, TIME, WIDTH), kwargs, dynamic_shapes=shapes).inputs
    assert all("past free" in str(value) for value in found[1:])
    short = bridge.inspect(
        Decoder(), torch.randn(BATCH, TIME, WIDTH), dynamic_shapes=({0: "batch", 1: "time"},)
    )
    assert [*map(str, short.inputs)] == ["x: (batch free, time free, 4 fixed)"]
