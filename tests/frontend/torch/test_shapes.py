"""`dynamic_shapes` in every form that torch takes, and what a form that does not fit is told."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import bridge
from bridge.frontend.torch.examples import Example
from bridge.frontend.torch.module import Torch
from bridge.frontend.torch.trees import input_names, register

X, Y = torch.zeros(2, 3), torch.zeros(4, 3)
B, W, AUTO = Dim("b", min=2, max=9), Dim("w"), Dim.AUTO


@dataclasses.dataclass
class Batch:
    x: Tensor
    y: Tensor
    note: Tensor | None = None


class Two(nn.Module):
    def forward(self, a: Any, c: Any = None, *, d: Any = None) -> Any: ...


class Many(nn.Module):
    def forward(self, *xs: Any) -> Any: ...


class Named(nn.Module):
    def forward(self, a: Any, **more: Any) -> Any: ...


def collected() -> torch.export.ShapesCollection:
    shapes = torch.export.ShapesCollection()
    shapes[Y] = {0: "b"}
    return shapes


FIRST = [{0: "b"}, {}]
FORMS = {  # a module, its inputs, the shapes, the free axes of each leaf
    "a tuple": (Two(), (X, Y), {}, ({0: "b"}, None), FIRST),
    "a list": (Two(), (X, Y), {}, [{0: "b"}, {}], FIRST),
    "by name": (Two(), (X, Y), {}, {"c": None, "a": {0: "b"}}, FIRST),
    "a list of dims": (Two(), (X, Y), {}, (["b", None], (None, None)), FIRST),
    "sizes and what stays": (Two(), (X, Y), {}, (("b", 3), (Dim.STATIC, None)), FIRST),
    "from behind": (Two(), (X, Y), {}, ({-2: "b"}, None), FIRST),
    "kinds of dims": (Two(), (X, Y), {}, ({0: B, 1: 4 * W + 4}, {0: AUTO, 1: Dim.DYNAMIC(min=2)}), [{0: B, 1: 4 * W + 4}, {0: AUTO, 1: Dim.DYNAMIC(min=2)}]),
    "nothing": (Two(), (X, Y), {}, (), [{}, {}]),
    "by keyword": (Two(), (), {"d": X, "a": Y}, {"d": {0: "b"}, "a": None}, [{}, {0: "b"}]),
    "by keyword and place": (Two(), (X,), {"d": Y}, ({0: "b"}, None), FIRST),
    "a number among them": (Two(), (X, 3), {}, ({0: "b"}, None), FIRST),
    "as the inputs are": (Two(), ({"x": X, "l": [Y, X]},), {}, ({"l": [{0: "b"}, None], "x": None},), [{}, {0: "b"}, {}]),
    "a part that stays": (Two(), ({"x": X, "l": [Y, X]},), {}, {"a": {"x": ("b", None), "l": None}}, [{0: "b"}, {}, {}]),
    "a dataclass": (Two(), (Batch(X, Y),), {}, ({"x": {0: "b"}, "y": None, "note": None},), FIRST),
    "a dataclass of shapes": (Two(), (Batch(X, Y),), {}, (Batch({0: "b"}, None),), FIRST),
    "several": (Many(), (X, Y), {}, (({0: "b"}, None),), FIRST),
    "the rest": (Named(), (X,), {"z": Y, "y": X}, {"a": None, "z": {0: "b"}, "y": None}, [{}, {0: "b"}, {}]),
    "the rest by its name": (Named(), (X,), {"z": Y}, {"a": {0: "b"}, "more": {"z": None}}, FIRST),
    "a collection": (Two(), (X, Y), {}, collected(), [{}, {0: "b"}]),
}  # fmt: skip


def example(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], shapes: Any) -> Example:
    register((args, kwargs))
    return list(Example.with_axes(Torch(module, args, kwargs), shapes))[-1]


@pytest.mark.parametrize(("module", "args", "kwargs", "shapes", "axes"), FORMS.values(), ids=FORMS)
def test_a_form_of_shapes(module: Any, args: Any, kwargs: Any, shapes: Any, axes: Any) -> None:
    kwargs = {name: kwargs[name] for name in ("a", "c", "d", "z", "y") if name in kwargs}
    found = example(module, args, kwargs, shapes)
    assert list(map(str, found.axes or ())) == list(map(str, axes))
    again = example(module, args, kwargs, found.shapes(module))  # torch's own form
    assert again.axes == found.axes


WRONG = {
    "an axis of no input": ({0: "b"}, r"names axes of no input: give .* \(\{0: 'b'\},\)"),
    "too few": (({0: "b"},), "there are the inputs a, c: give one entry for each"),
    "a name too many": ({"a": None, "c": None, "z": {0: "b"}}, "there are the inputs a, c"),
    "no axis": (({2: "b"}, None), r"dynamic_shapes\['a'\] names axis 2, and the input has the axes 0 to 1"),
    "no dim": (({0: 1.5}, None), r"\['a'\]\[0\] is 1.5: a dim is a name, a torch.export.Dim"),
    "another size": (((5, None), None), "is 5, and the axis is 2 long"),
    "another number of axes": ((("b",), None), "has 1 entries, and the input 2 axes"),
    "a text": ("batch", "is 'batch', and there are the inputs a, c"),
}


@pytest.mark.parametrize(("shapes", "says"), WRONG.values(), ids=WRONG)
def test_shapes_that_do_not_fit(shapes: Any, says: str) -> None:
    with pytest.raises(bridge.SourceError, match=says):
        example(Two(), (X, Y), {}, shapes)


NAMES = {
    "forward's": (Two(), (X, Y), {}, ["a", "c"]),
    "of what is nested": (Two(), (X, {"k": [Y, Y]}), {}, ["a", "c_k_0", "c_k_1"]),
    "the keys of one dict": (Two(), ({"ids": X, "m": [Y, Y]},), {}, ["ids", "m_0", "m_1"]),
    "the fields of one dataclass": (Two(), (Batch(X, Y),), {}, ["x", "y"]),
    "of a list": (Many(), (X, Y), {}, ["xs_0", "xs_1"]),
    "as they are given": (Named(), (X,), {"z": Y, "n": 3}, ["a", "z"]),
}


@pytest.mark.parametrize(("module", "args", "kwargs", "names"), NAMES.values(), ids=NAMES)
def test_what_inputs_are_called(module: Any, args: Any, kwargs: Any, names: list[str]) -> None:
    register((args, kwargs))
    assert input_names(module, args, kwargs) == names


class Mixed(nn.Module):
    """Its trace with one row fixes the batch."""

    def forward(self, x: Tensor, scale: float = 1.0, **more: Tensor) -> Tensor:
        return (x * scale).reshape(x.shape[0] * 3) + more["y"].flatten()


def test_shapes_of_an_example_of_one() -> None:
    """Named axes of length one are free; those of `**kwargs` too, whose names the inputs have."""
    axes = {0: Dim("rows", max=64)}
    kwargs = {"y": torch.randn(1, 3), "scale": 2.0}
    shapes = {"x": axes, "scale": None, "y": axes}
    result = bridge.convert(Mixed(), torch.randn(1, 3), kwargs, dynamic_shapes=shapes)
    assert result.report.proved
    assert list(map(str, result.report.inputs)) == [
        "x: (rows: 1 to 64, 3 fixed)",
        "y: (rows: 1 to 64, 3 fixed)",
    ]
    assert any("one long where axes are named" in note for note in result.report.notes)
    assert result.model({"x": torch.ones(4, 3).numpy(), "y": torch.ones(4, 3).numpy()}).shape == (12,)


class Further(nn.Module):
    def forward(self, x: Tensor, *further: Tensor) -> Tensor:
        return x + sum(y.sum() for y in further)


def test_further_inputs_that_stay() -> None:
    """torch.onnx takes a tuple of None for the axes of one tensor."""
    found = bridge.convert(Further(), (X, Y), dynamic_shapes=({0: "rows"}, None))
    assert [x.shape for x in found.model.inputs] == [(None, 3), (4, 3)]
