"""Where a conversion departs first, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import onnx_ir as ir

from bridge.verification.bisect.reproducer import Reproducer
from bridge.verification.precision import ROUNDING_FACTOR

EXPORT, RAISED, BUILD = "export", "raising the opset", "plan and build"
FORMULA, ROUNDING, UNKNOWN = "a wrong formula", "rounding", "not told from rounding"


@dataclass(frozen=True)
class Handed:
    """An input of the node, and how far it is off already; None where the other side has no such value."""

    name: str
    error: float | None


def with_makers(nodes: Iterable[ir.Node], follows: Callable[[ir.Value], bool]) -> list[ir.Node]:
    """Some nodes, and those that make what they are given, as far back as `follows` says of a value."""
    found = list(nodes)
    looked_at = list(found)
    while looked_at:
        read = [value for value in looked_at.pop().inputs if value is not None and follows(value)]
        makers = dict.fromkeys(value.producer() for value in read)
        new = [maker for maker in makers if maker is not None and maker not in found]
        found += new
        looked_at += new
    return found


def handed(given: Iterable[ir.Value], error: Callable[[ir.Value], float | None]) -> tuple[Handed, ...]:
    """Of the values `given`, with the `error` of each."""
    return tuple(Handed(str(value.name), error(value)) for value in given)


@dataclass(frozen=True)
class Origin:
    """The first value that departs beyond its floor, what makes it, and what rounding makes of that."""

    stage: str  # "export", "raising the opset", "pass fuse_linear", "plan and build", or of training
    op: str  # the ONNX operator
    output: str  # the value's name in the graph; of training, the parameter's, variable's or module's
    path: str = ""  # of the torch module, or the node's name
    line: str = ""  # of the code that asked for it
    layers: tuple[str, ...] = ()  # of the Keras model, that it became
    at: str = ""  # sizes and values
    error: float = 0.0
    floor: float = 0.0  # the error up to which it would be none
    inputs: tuple[Handed, ...] = ()
    # Outputs of all nodes that the exporter wrote for the one call of torch, or that a pass put in for this one
    nodes: tuple[str, ...] = ()
    alone: float | None = None  # its error where both sides are given the same inputs
    rounding: float | None = None  # what the last bits and float64 make of it
    sensitivity: float | None = None  # of the network's outputs, to the last bits of its inputs
    reproducer: str = ""  # the folder in which it is

    @property
    def node(self) -> tuple[str, str]:
        """The stage, and the name of the node's first output."""
        return self.stage, self.output

    @property
    def why(self) -> str:
        """A wrong formula, or rounding."""
        if self.rounding is None:
            return UNKNOWN
        own = self.error if self.alone is None else self.alone
        return ROUNDING if own <= max(ROUNDING_FACTOR * self.rounding, self.floor) else FORMULA

    def __str__(self) -> str:
        where = " ".join(part for part in (self.op, self.path or self.output) if part)
        became = f", which became {', '.join(self.layers)}" if self.layers else ""
        return f"{self.stage}: {where}{f' ({self.line})' if self.line else ''}{became}"

    @property
    def told(self) -> tuple[str, ...]:
        """What there is to say of it, in sentences."""
        alone = "" if self.alone is None else f", and by {self.alone:.2g} given the same inputs as the source"
        said = [f"{self.output} is off by {self.error:.2g}{alone}; its floor is {self.floor:.2g} ({self.at})"]
        if self.inputs:
            off = (f"{x.name} {'–' if x.error is None else f'{x.error:.1g}'}" for x in self.inputs)
            said.append(f"its inputs are off by: {', '.join(off)}")
        if self.rounding is not None:
            said.append(f"{self.why}: its last bits and float64 move it by {self.rounding:.1g}")
        if self.sensitivity is not None:
            said.append(f"the last bits of the inputs move the network's outputs by {self.sensitivity:.1g}")
        if self.reproducer:
            said.append(f"reproducer: {self.reproducer}")
        return tuple(said)


@dataclass(frozen=True)
class Located:
    """Where it departs, and that by itself where it can be run so."""

    origin: Origin
    reproducer: Reproducer | None = None
