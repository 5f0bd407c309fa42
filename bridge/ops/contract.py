"""What plan, operators and build agree on: an operator as its builder declares it (`Operator`), a node with all that it
gets (`Step`), and what a builder works with (`Site`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, Protocol

import numpy as np
import onnx_ir as ir

from bridge.errors import Refusal
from bridge.graph.axes import Perm
from bridge.graph.provenance import refusal, torch_path
from bridge.graph.rewriting import used
from bridge.weights.weight import Weight

Array = Annotated[np.ndarray, "constant"]
Ints = Annotated[Any, "integers"]
Dims = Annotated[Any, "dims"]


TYPES = {"bool", "float16", "float32", "float64", "bfloat16"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}  # that Keras has


class Refused(Exception):
    """A builder found that its node cannot be said in Keras; the message is the reason."""


class Layout(Enum):
    ANY = "any"
    FIRST = "any for the first input"
    LAST = "last"
    PRODUCT = "as stored, both of them"
    CHANNELS_LAST = "channels last"
    HEADS = "heads behind length"
    ONNX = "as stated"
    RENAMES = "renames axes"
    RESHAPES = "regroups axes"


ANY, FIRST, LAST, PRODUCT, CHANNELS_LAST, HEADS, ONNX, RENAMES, RESHAPES = Layout


class Kind(Enum):
    """What a builder's input has to be."""

    TENSOR = "a tensor"
    WEIGHT = "a parameter"
    EITHER = "a parameter or a tensor"
    ARRAY = "a constant"
    INTS = "known integers"
    DIMS = "known or symbolic integers"

    @property
    def known(self) -> bool:
        """Whether the value is read while planning and never as a tensor."""
        return self not in (Kind.TENSOR, Kind.EITHER)


KINDS = {Weight: Kind.WEIGHT, Array: Kind.ARRAY, Ints: Kind.INTS, Dims: Kind.DIMS, Weight | None: Kind.EITHER}


@dataclass(frozen=True)
class Parameter:
    name: str
    kind: Kind
    optional: bool
    variadic: bool


@dataclass(frozen=True)
class Operator:
    """A registered operator."""

    op_type: str
    domain: str
    function: Callable[..., Any]
    layout: Layout
    axes: str | None
    check: Callable[[Step], str | None] | None
    takes_site: bool
    inputs: tuple[Parameter, ...]
    attributes: dict[str, Any]  # name -> default, `inspect.Parameter.empty` where required
    family: str
    features: dict[str, int] = field(default_factory=dict)
    units: dict[str, int] = field(default_factory=dict)
    batch_first: bool = False

    def parameter(self, index: int) -> Parameter | None:
        if index < len(self.inputs):
            return self.inputs[index]
        return self.inputs[-1] if self.inputs and self.inputs[-1].variadic else None


@dataclass(frozen=True)
class Operand:
    """One input of a node, as its builder will get it."""

    value: ir.Value | None
    kind: Kind
    known: Any = None  # the weight, array, integers or dims; None for a tensor made at run time
    perm: Perm = None  # the order in which the builder wants it

    @property
    def is_tensor(self) -> bool:
        return self.value is not None and self.known is None


@dataclass
class Step:
    """A node with everything its builder needs."""

    node: ir.Node
    operator: Operator
    operands: list[Operand]
    attributes: dict[str, Any]
    perms: list[Perm] = field(default_factory=list)  # of the outputs

    @property
    def path(self) -> str:
        return torch_path(self.node)

    def refusal(self, reason: str) -> Refusal:
        """That this node cannot be built, and why."""
        return refusal(self.node, reason)

    def argument(self, name: str) -> Any:
        """The input or attribute `name`: what is known of it, the `ir.Value` of a tensor, or None."""
        if name in self.attributes:
            return self.attributes[name]
        index = next((i for i, p in enumerate(self.operator.inputs) if p.name == name), None)
        if index is None or index >= len(self.operands):
            return self.operator.attributes.get(name)
        operand = self.operands[index]
        return operand.value if operand.is_tensor else operand.known

    def shape(self, index: int = 0) -> tuple[Any, ...]:
        """The dims of input `index` as the graph states them."""
        return tuple(self.node.inputs[index].shape)

    def used(self, index: int) -> bool:
        """Whether anything reads output `index`."""
        return index < len(self.node.outputs) and used(self.node.outputs[index])


class Site(Protocol):
    """The place of one node in the model under construction: what its builder works with."""

    step: Step

    @property
    def node(self) -> ir.Node: ...
    @property
    def dtype(self) -> str:
        """The Keras dtype of the node's first output."""
        ...

    def shape(self, index: int = 0) -> tuple[Any, ...]:
        """The dims of input `index` in the order in which the builder gets it."""
        ...

    def out_shape(self, index: int = 0) -> tuple[Any, ...]:
        """The dims of output `index` in the order in which the builder has to give it."""
        ...

    def used(self, index: int) -> bool:
        """Whether anything reads output `index`."""
        ...

    def twin(self, name: str) -> bool:
        """Whether another way is to be taken in the place of `name`, which Keras has not in float64 or rounds there:
        one of `keras_compat.TWINS`. The report names those that were."""
        ...

    def array(self, value: Any) -> np.ndarray:
        """A constant in the dtype of this build."""
        ...

    def constant(self, value: np.ndarray) -> Any:
        """A constant in the dtype of this build, as an operation takes it."""
        ...

    def tensor(self, weight: Weight) -> Any:
        """A weight where the graph has a tensor."""
        ...

    def at_run_time(self, constant: np.ndarray) -> Any:
        """A constant as a tensor of the model."""
        ...

    def float_type(self, dtype: ir.DataType) -> str:
        """The Keras dtype of values of that type in this build."""
        ...

    def layer(
        self,
        cls: Callable[..., Any],
        *,
        weights: Mapping[str, Weight] | None = None,
        name: str = "",
        **config: Any,
    ) -> Any:
        """A layer of class `cls` whose variables are filled from `weights` ({path below the layer: weight})."""
        ...

    def length(self, dim: ir.SymbolicDim) -> Any:
        """A vector of zeros as long as `dim`, made from a tensor that has such an axis. Raises `Refused`."""
        ...
