"""The parts of a report, as frozen dataclasses: its rows, variables, inputs and outputs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """What one ONNX node became. `error` is the largest relative error of its output against onnxruntime, if compared,
    and `errors` are those at each choice of sizes, by these."""

    path: str  # of the torch module, or the node's name
    op: str
    layer: str  # the Keras class, or "keras.ops"
    name: str  # of the Keras layer
    parameters: int
    error: float | None = None
    line: str = ""  # of the source code that asked for it: "model.py:12"
    shape: str = ""  # of its first output, as the graph states it: "(batch, 10, 32)"
    reads: tuple[int, ...] = ()  # places of the rows that it reads; of the inputs of the model -1, -2, …
    errors: dict[str, float] = dataclasses.field(default_factory=dict)  # by "batch=3, time=7"


@dataclass(frozen=True)
class Variable:
    """A Keras variable and the torch parameters it is made from."""

    path: str
    shape: tuple[int, ...]
    trainable: bool
    recipe: str
    one_way: bool = False
    is_sum: bool = False  # of parameters, such as torch's two biases
    layer: str = ""  # the name of the Keras layer that has it


@dataclass(frozen=True)
class Untrained:
    """A parameter that torch trains and the Keras model does not."""

    name: str  # torch's
    size: int  # how many numbers it is
    reason: str


@dataclass(frozen=True)
class Axis:
    """An axis of an input or an output: fixed at `size`, or free."""

    size: int | None
    name: str = ""  # of a free axis, or the formula that its size is of several
    # By name, of the free axes that may not have any size
    ranges: dict[str, str] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        if self.size is not None:
            return f"{self.size} fixed"
        if self.name in self.ranges:
            return f"{self.name}: {self.ranges[self.name]}"
        return ", ".join([f"{self.name} free", *(f"{name}: {sizes}" for name, sizes in self.ranges.items())])


@dataclass(frozen=True)
class Value:
    """An input or an output: what it is called, and its axes."""

    name: str
    axes: tuple[Axis, ...]
    drawn: str = ""  # of an input, its type and the range of what it was given: "float32, -2.9 to 3.1"
    row: int | None = None  # of an output, the place of the row that gives it

    def __str__(self) -> str:
        return f"{self.name}: ({', '.join(map(str, self.axes))})"
