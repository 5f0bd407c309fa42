"""How the inputs and outputs of random modules come: by place or by name, in containers of every kind, one of a batch
or two, and the module wrapped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from benchmarks.fuzz.layers import Draw
from benchmarks.fuzz.outcomes import listed
from benchmarks.fuzz.parts import Chain

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
NAMES = ("main", "last", "Aux", "b", "a", "c_1", "c_0")  # of outputs, in no order of letters


@dataclass
class Answer:
    main: Any
    more: Any = None


class Pair(NamedTuple):
    main: Any
    more: Any = None


class ByPlace(Chain):
    def forward(self, x: torch.Tensor, *further: torch.Tensor) -> Any:
        return self.given(x, dict(zip(self.names, further, strict=True)))


class ByName(Chain):
    def forward(
        self, x: Any, memory: Any = None, state: Any = None, mask: Any = None, lengths: Any = None
    ) -> Any:
        return self.given(x, {"memory": memory, "state": state, "mask": mask, "lengths": lengths})


class InDict(Chain):
    def forward(self, inputs: Mapping[str, Any]) -> Any:
        return self.given(inputs["x"], inputs)


class Nested(Chain):
    def forward(self, inputs: Any) -> Any:
        x, further = inputs
        return self.given(x, further)


INPUTS: dict[str, tuple[type[Chain], Callable[[Any, dict[str, Any]], Arguments]]] = {
    "by place": (ByPlace, lambda x, further: ((x, *further.values()), {})),
    "by name": (ByName, lambda x, further: ((), {**further, "x": x})),
    "some by name": (ByName, lambda x, further: ((x,), further)),
    "in a dict": (InDict, lambda x, further: (({"x": x, **further},), {})),
    "nested": (Nested, lambda x, further: (((x, further),), {})),
}


def _answered(found: Any) -> list[Any]:
    return [found["main"], *found.get("more", ())]


def _paired(found: Any) -> list[Any]:
    return [found["main"], *found.get("more", {"rest": ()})["rest"]]


def _in_tree(found: Any) -> list[Any]:
    """Keras gives what is alone in a list by itself."""
    first, more = (found, ()) if isinstance(found, dict) else found
    return [first["main"], *more]


# Made in torch, and read in Keras
OUTPUTS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], list[Any]]]] = {
    "in a tuple": (lambda ys: tuple(ys) if len(ys) > 1 else ys[0], listed),
    "in a list": (list, listed),
    "as a dict": (
        lambda ys: dict(zip(NAMES, ys, strict=False)),
        lambda found: [found[name] for name in NAMES if name in found],
    ),
    "as a dataclass": (lambda ys: Answer(ys[0], ys[1:] or None), _answered),
    "as a named tuple": (lambda ys: Pair(ys[0], {"rest": ys[1:]}), _paired),
    "as a tree": (lambda ys: ({"main": ys[0]}, tuple(ys[1:])), _in_tree),
}
WRAPPERS: dict[str, Callable[[nn.Module], Any]] = {
    "": lambda module: module,
    "DataParallel": nn.DataParallel,
    "compile": lambda module: torch.compile(module, backend="eager"),
}


@dataclass(frozen=True)
class Form:
    inputs: str = "by place"
    outputs: str = "in a tuple"
    wrapper: str = ""
    one: bool = False  # of a batch, in the example

    @classmethod
    def drawn(cls, d: Draw) -> Form:
        """Each part of it plain half of the time."""
        inputs, outputs, wrapper = (
            d.choice([next(iter(table)), d.choice(list(table))]) for table in (INPUTS, OUTPUTS, WRAPPERS)
        )
        return cls(inputs, outputs, wrapper, d.random() < 0.4)

    @property
    def groups(self) -> tuple[str, ...]:
        marks = (f"inputs {self.inputs}", f"outputs {self.outputs}", self.wrapper, "of one" * self.one)
        return tuple(filter(None, marks))

    def chain(self, *parts: Any) -> Chain:
        return INPUTS[self.inputs][0](*parts, given_as=OUTPUTS[self.outputs][0])

    def arguments(self, x: Any, further: dict[str, Any]) -> Arguments:
        return INPUTS[self.inputs][1](x, further)

    def shapes(self, x: Any, further: dict[str, Any]) -> Any:
        """Those of the arguments, as `dynamic_shapes` has them."""
        if self.inputs == "by place":
            return (x, tuple(further.values())) if further else (x,)
        args, kwargs = self.arguments(x, further)
        return {**dict(zip(["x"], args, strict=False)), **kwargs} if kwargs else args

    def wrapped(self, module: nn.Module) -> Any:
        return WRAPPERS[self.wrapper](module)

    def read(self, found: Any) -> list[Any]:
        """What a Keras model gives, in the order in which the module gives it."""
        return OUTPUTS[self.outputs][1](found)
