"""What a module gives keeps its names: dicts, dataclasses and named tuples are dicts of the Keras model."""

from __future__ import annotations

import collections
import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import torch
from calls import Call
from torch import Tensor, nn

import bridge
from bridge.frontend.torch.trees import paths, register
from bridge.graph.structure import label, leaves, nested, plain
from bridge.report.records import Axis

NET = nn.Linear(3, 3).eval()
X = torch.randn(2, 3)


@dataclasses.dataclass
class Answer:
    logits: Any
    more: Any = None


class Pair(NamedTuple):
    mean: Any
    deviation: Any


class Output(collections.OrderedDict):
    """A mapping that torch does not know."""


A, B, C = torch.zeros(1), torch.zeros(2), torch.zeros(3)
TREES = {  # what forward gives, and what the Keras model does
    "a tensor": (A, A),
    "one in a tuple": ((A,), A),
    "a tuple": ((A, (B, C)), [A, B, C]),
    "a dict": ({"z": A, "a": B}, {"z": A, "a": B}),
    "of one": ({"z": A}, {"z": A}),
    "numbers for names": ({0: A, 1: B}, {"0": A, "1": B}),
    "a dataclass": (Answer(A, {"x": B}), {"logits": A, "more": {"x": B}}),
    "without all of it": (Answer(A), {"logits": A}),
    "a named tuple": (Pair(A, [B, C]), {"mean": A, "deviation": [B, C]}),
    "a mapping": (Output(mean=A, z=None, d=B), {"mean": A, "d": B}),
    "in a tuple": ((A, None, {"b": B}), [A, {"b": B}]),
    "alone in a tuple": ((({"b": B, "a": [A]},), None), {"b": B, "a": [A]}),
}


@pytest.mark.parametrize(("given", "wanted"), TREES.values(), ids=TREES)
def test_the_structure_of_what_is_given(given: Any, wanted: Any) -> None:
    register(given)
    found = [x for x in torch.utils._pytree.tree_leaves(given) if x is not None]
    places = plain(list(paths(given)))
    made = nested(places, found)
    assert torch.utils._pytree.tree_map(id, made) == torch.utils._pytree.tree_map(id, wanted)
    assert list(map(id, leaves(places, made))) == list(map(id, found))


def test_what_outputs_are_called() -> None:
    assert [label(path) for path in ((), (0,), ("a",), ("a", "b", 1), (1, "c"))] == [
        "output", "output[0]", "a", "a.b[1]", "output[1].c",
    ]  # fmt: skip


def test_names_stay_through_saving_and_training(tmp_path: Path) -> None:
    """In another order than Keras has them, with an output that is an input and one that is given twice."""

    def forward(self: Any, x: Tensor) -> Any:
        y = self.net(x)
        return {"z": y, "states": Pair(x, {"twice": 2 * y, "again": y})}

    module = Call(forward, net=NET)
    result = bridge.convert(module, X, verify=bridge.Verify(training=True))
    assert result.report.proved
    called = ("z", "states.mean", "states.deviation.twice", "states.deviation.again")
    assert [value.name for value in result.report.outputs] == list(called)
    assert all(value.axes == (Axis(None, "batch"), Axis(3)) for value in result.report.outputs)
    path = result.save(tmp_path / "model.keras")
    assert bridge.verify(path, module, X, options=bridge.Verify(training=True)).proved
    found = keras.saving.load_model(path)(X.numpy())
    np.testing.assert_allclose(found["z"], module(X)["z"].detach(), atol=1e-5)
    np.testing.assert_allclose(found["states"]["deviation"]["twice"], 2 * np.asarray(found["z"]), atol=1e-5)
    other = Call(lambda self, x: (self.net(x), x, x, x), net=NET)
    with pytest.raises(bridge.SourceError, match="gives other outputs than its source"):
        bridge.verify(path, other, X)


def test_a_program_keeps_its_names() -> None:
    program = torch.export.export(Call(lambda self, x: ({"z": self.net(x), "a": x},), net=NET), (X,))
    result = bridge.convert(program, verify=False)
    assert set(result.model.output) == {"z", "a"}
