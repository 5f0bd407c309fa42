"""What plan, operators and build agree on: an operator as its builder declares it (`Operator`), a node with all that it
gets (`Step`), and what a builder works with (`Site`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Annotated, Any, Protocol, TypeAlias

import keras
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bridge.errors import Refusal, UnsupportedError
from bridge.graph.axes import FactorOrder, Perm
from bridge.graph.provenance import refusal, torch_path
from bridge.graph.rewriting import input_of, is_used
from bridge.graph.shapes import Dim, rank, shape_of
from bridge.weights.weight import Weight

Tensor: TypeAlias = keras.KerasTensor | np.ndarray  # of the model under construction, or a constant
Array = Annotated[Any, "constant"]
Ints = Annotated[Any, "integers"]
Dims = Annotated[Any, "dims"]

TYPES = {"bool", "float16", "float32", "float64", "bfloat16"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}  # that Keras has


class Refused(Exception):
    """A builder found that its node cannot be said in Keras; the message is the reason."""


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

    @property
    def has_axes(self) -> bool:
        """Whether it is an array whose axes may stand in another order."""
        return not self.known or self is Kind.ARRAY


KINDS = {
    Weight: Kind.WEIGHT,
    Array: Kind.ARRAY,
    Ints: Kind.INTS,
    Dims: Kind.DIMS,
    Weight | Tensor: Kind.EITHER,
    Weight | Tensor | None: Kind.EITHER,
}


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
    function: Callable[..., Tensor | Sequence[Tensor | None]]
    layout: Layout
    axes: str | None
    check: Callable[[Step], str | None] | None
    takes_site: bool
    inputs: tuple[Parameter, ...]
    attributes: Mapping[str, object]  # name -> default, `inspect.Parameter.empty` where required
    family: str
    features: dict[str, int] = field(default_factory=dict)
    units: dict[str, int] = field(default_factory=dict)
    feature_axis: int = -1
    batch_first: bool = False
    makes: tuple[type, ...] = ()  # the Keras layers that its nodes may become
    unknown: str = (
        "how many axes its inputs and outputs have is not known"  # why it cannot be built where that is so
    )

    def parameter(self, index: int) -> Parameter | None:
        if index < len(self.inputs):
            return self.inputs[index]
        return self.inputs[-1] if self.inputs and self.inputs[-1].variadic else None


Known: TypeAlias = Weight | np.ndarray | int | list[int] | list[Dim]  # what may be read while planning


@dataclass(frozen=True)
class Operand:
    """One input of a node, as its builder will get it."""

    value: ir.Value | None
    kind: Kind
    known: Known | None = None  # the weight, array, integers or dims; None for a tensor made at run time
    perm: Perm = None  # the order in which the builder wants it

    @property
    def is_tensor(self) -> bool:
        return self.value is not None and self.known is None

    @property
    def rank(self) -> int:
        """How many axes it has as the graph states it; none where it is left out."""
        return 0 if self.value is None else rank(self.value)

    def ordered(self, perm: Perm) -> Operand:
        return replace(self, perm=perm)


@dataclass(frozen=True)
class Step:
    """A node with everything its builder needs. What is known of its axes is in the graph's order until the step is
    laid out, and in the stored order then; `shape` is in the graph's."""

    node: ir.Node
    operator: Operator
    operands: tuple[Operand, ...]
    attributes: Mapping[str, object]  # of those that hold a graph, its `Plan`
    perms: tuple[Perm, ...] = ()  # of the outputs

    @property
    def bodies(self) -> tuple[Plan, ...]:
        """The plans of the graphs inside the node."""
        return tuple(value for value in self.attributes.values() if isinstance(value, Plan))

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

    @property
    def axes(self) -> list[int] | None:
        """The axis numbers among its arguments; None where it is given none."""
        name = self.operator.axes
        given = None if name is None else self.argument(name)
        if given is None and name is not None:
            given = self.operator.attributes.get(name)
        return None if given is None else [int(axis) for axis in np.atleast_1d(given)]

    @property
    def feature_axis(self) -> int:
        """The axis of the first input along which its features run."""
        axis = self.operator.feature_axis
        return axis if axis >= 0 else axis + rank(input_of(self.node, 0))

    def reordered(self, known: Mapping[int, Known]) -> Step:
        """The step, with something else known of the operands that have these numbers."""
        operands = (
            replace(operand, known=known[index], perm=None) if index in known else operand
            for index, operand in enumerate(self.operands)
        )
        return replace(self, operands=tuple(operands))

    def shape(self, index: int = 0) -> tuple[Dim, ...]:
        """The dims of input `index` as the graph states them."""
        return shape_of(input_of(self.node, index))

    def used(self, index: int) -> bool:
        """Whether anything reads output `index`."""
        return index < len(self.node.outputs) and is_used(self.node.outputs[index])


@dataclass
class Plan:
    """A graph as it is built: its steps in order, the axis order of every value, and what stands in the way."""

    model: ir.Model
    graph: ir.Graph  # the model's own, or the body of a node
    steps: list[Step] = field(default_factory=list)
    # Those of values outside that it may read, too
    perms: Mapping[ir.Value, Perm] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    # inputs and outputs not in the order of the signature
    signature_perms: Mapping[ir.Value, Perm] = field(default_factory=dict)
    # values whose elements along an axis are reordered
    factor_orders: Mapping[ir.Value, FactorOrder] = field(default_factory=dict)

    def stored(self, value: ir.Value, array: np.ndarray) -> np.ndarray:
        """`array`, which is `value` as the graph states it, in the order in which the build stores it."""
        order, perm = self.factor_orders.get(value), self.perms.get(value)
        array = array if order is None else order.apply(array, order.axis)
        return array if perm is None else array.transpose(perm)

    def require(self) -> Plan:
        """Raise `UnsupportedError` with all refusals, if there are any."""
        if self.refusals:
            raise UnsupportedError(self.refusals)
        return self


class Orders(Protocol):
    """What the plan says of the order of values, as far as they are laid out."""

    def perm(self, value: ir.Value | None) -> Perm: ...

    def is_image(self, value: ir.Value) -> bool:
        """Whether a convolution or its kin reads `value`, perhaps behind operators that work in any order."""
        ...

    def reorder_readers(self, value: ir.Value, order: FactorOrder) -> bool:
        """Store the elements of `value` in that order, if everything that reads it can; whether that is so."""
        ...

    def reorder_makers(self, value: ir.Value, order: FactorOrder) -> bool:
        """Store the elements of `value` in that order, if everything that makes it can; whether that is so."""
        ...


@dataclass(frozen=True)
class Reordered:
    """A step beside a value whose elements are in another order, and the order that travels on through it, if any."""

    step: Step
    order: FactorOrder | None


class Layout(Protocol):
    """What an operator does with the order of axes (each is a class in `ops/layouts.py`)."""

    text: str
    renames: bool  # it moves nothing and leaves no trace in the model

    def arrange(self, step: Step, orders: Orders) -> Step:
        """The step with the order of every operand and output, its axis numbers those of the stored order."""
        ...

    def images(self, step: Step, given: bool) -> Sequence[ir.Value | None]:
        """The inputs that had best have their channels last; `given`, whether the output has."""
        ...

    def read_reordered(self, step: Step, index: int, order: FactorOrder) -> Reordered | None:
        """The step where the elements of its input `index` are in that order; None if it cannot be."""
        ...

    def give_reordered(self, step: Step, order: FactorOrder) -> Reordered | None:
        """The step where the elements of its output are in that order; None if it cannot be."""
        ...


class Site(Protocol):
    """The place of one node in the model under construction: what its builder works with."""

    step: Step

    @property
    def node(self) -> ir.Node: ...
    @property
    def dtype(self) -> str:
        """The Keras dtype of the node's first output."""
        ...

    def shape(self, index: int = 0) -> tuple[Dim, ...]:
        """The dims of input `index` in the order in which the builder gets it."""
        ...

    def out_shape(self, index: int = 0) -> tuple[Dim, ...]:
        """The dims of output `index` in the order in which the builder has to give it."""
        ...

    def perm(self, index: int = 0) -> tuple[int, ...]:
        """The axes of input `index`, as the graph numbers them, in the order in which the builder gets them."""
        ...

    def given(self, index: int) -> bool:
        """Whether the node is given input `index`: axes that it is not given arrive all the same, renumbered."""
        ...

    def used(self, index: int) -> bool:
        """Whether anything reads output `index`."""
        ...

    def twin(self, name: str) -> bool:
        """Whether another way is to be taken in the place of `name`, which Keras has not in float64 or rounds there:
        one of `keras_compat.TWINS`. The report names those that were."""
        ...

    def array(self, value: npt.ArrayLike) -> np.ndarray:
        """A constant in the dtype of this build."""
        ...

    def constant(self, value: np.ndarray) -> Tensor:
        """A constant in the dtype of this build, as an operation takes it."""
        ...

    def tensor(self, weight: Weight) -> Tensor:
        """A weight where the graph has a tensor."""
        ...

    def at_run_time(self, value: object) -> Tensor:
        """A constant as a tensor of the model; what is one stays."""
        ...

    def float_type(self, dtype: ir.DataType | None) -> str:
        """The Keras dtype of values of that type in this build."""
        ...

    def layer(
        self,
        cls: Callable[..., keras.Layer],
        *,
        weights: Mapping[str, Weight] | None = None,
        name: str = "",
        **config: object,
    ) -> keras.Layer:
        """A layer of class `cls` whose variables are filled from `weights` ({path below the layer: weight})."""
        ...

    def length(self, dim: ir.SymbolicDim) -> Tensor:
        """A vector of zeros as long as `dim`, made from a tensor that has such an axis. Raises `Refused`."""
        ...

    def model(self, body: Plan, name: str) -> tuple[keras.Model, list[Tensor]]:
        """The graph inside this node as a Keras model of its inputs and of what it reads of the graph around it, with
        the tensors of these. Its outputs are a list, in the order of axes of the graph."""
        ...
