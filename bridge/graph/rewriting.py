"""Writing nodes into a graph, for passes."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Iterator
from typing import Any, TypeGuard, TypeVar, overload

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bridge.errors import SourceError

Default = TypeVar("Default")


class Emitter:
    """Makes nodes in place of `node`: before it, and with its metadata (torch path and source line)."""

    def __init__(self, node: ir.Node):
        self.node = node
        self.graph = owner_graph(node)

    def __call__(
        self, op: str, *inputs: ir.Value | None, domain: str = "", outputs: int = 1, **attributes: Any
    ) -> Any:
        """One new node; returns its output, or a tuple where `outputs` is not 1."""
        new = ir.node(
            op,
            list(inputs),
            {key: value for key, value in attributes.items() if value is not None},
            domain=domain,
            num_outputs=outputs,
            metadata_props=dict(self.node.metadata_props),
        )
        self.graph.insert_before(self.node, new)
        if new.name is None or not new.name:
            new.name = f"{self.node.name}_{op}"
        return new.outputs[0] if outputs == 1 else tuple(new.outputs)

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike = np.int64) -> ir.Value:
        return self.tensor(ir.tensor(np.asarray(value, dtype)))

    def tensor(self, tensor: ir.TensorProtocol) -> ir.Value:
        """An initializer that holds `tensor` (a `Weight`, for instance)."""
        value = ir.Value(name=f"{self.node.name}_const_{len(self.graph.initializers)}", const_value=tensor)
        value.shape, value.dtype = ir.Shape(sizes(tensor)), tensor.dtype
        self.graph.register_initializer(value)
        return value


def replace(old: ir.Value, new: ir.Value) -> None:
    """Everything that read `old` reads `new`; what is known of `old` is kept. A body that gives `old` gives a copy of
    what is not its own."""
    if new.shape is None:
        new.shape = old.shape
    if new.dtype is None and old.dtype is not None:
        new.dtype = old.dtype
    maker = old.producer()
    if maker is not None and old.is_graph_output() and _graph_of(new) is not maker.graph:
        copy = Emitter(maker)("Identity", new)
        copy.shape, copy.type = new.shape, new.type
        new = copy
    old.replace_all_uses_with(new, replace_graph_outputs=True)


def _graph_of(value: ir.Value) -> ir.Graph | ir.Function | None:
    node = value.producer()
    return value.graph if node is None else node.graph


def typed(value: ir.Value, dims: Iterable[int | ir.SymbolicDim], like: ir.Value) -> ir.Value:
    """`value` with these dims and the type of `like`."""
    value.shape = ir.Shape(dims)
    if like.dtype is not None:
        value.dtype = like.dtype
    return value


def is_onnx(node: ir.Node | None, *ops: str) -> TypeGuard[ir.Node]:
    """Whether `node` is one of the operators `ops` (or any, if none is named) of ONNX itself."""
    return node is not None and node.domain in ("", "ai.onnx") and (not ops or node.op_type in ops)


def input_of(node: ir.Node, index: int) -> ir.Value:
    """Input `index`, which the operator cannot do without. Raises `SourceError` where it is missing."""
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        raise SourceError(f"{node.op_type} {node.name}: its input {index} is missing")
    return value


def inputs_of(node: ir.Node) -> tuple[ir.Value, ...]:
    """All inputs of an operator that cannot do without any. Raises `SourceError` where one is missing."""
    return tuple(input_of(node, index) for index in range(len(node.inputs)))


def all_nodes(model: ir.Model) -> list[ir.Node]:
    """The nodes of the model, those of graphs inside nodes among them."""
    return list(ir.traversal.RecursiveGraphIterator(model.graph))


def owner_graph(node: ir.Node) -> ir.Graph:
    """The graph in which `node` stands."""
    if not isinstance(node.graph, ir.Graph):
        raise ValueError(f"{node.op_type} {node.name} stands in no graph")
    return node.graph


def numpy_type(value: ir.Value) -> np.dtype:
    """The type of the elements of `value`. Raises `SourceError` where it is not known."""
    if value.dtype is None:
        raise SourceError(f"the type of {value.name} is not known")
    return value.dtype.numpy()


def sizes(tensor: ir.TensorProtocol) -> list[int]:
    """The sizes of the axes of a constant."""
    return [int(dim) for dim in tensor.shape if isinstance(dim, int)]


def is_used(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def read_inside(node: ir.Node) -> Iterator[ir.Value | None]:
    """The values that the graphs inside `node` give and read."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            body = attribute.as_graph()
            yield from body.outputs
            for inner in body:
                yield from inner.inputs
                yield from read_inside(inner)


def constant(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor behind `value`, or None."""
    return None if value is None else ir.convenience.get_const_tensor(value)


def integers(value: ir.Value | None) -> list[int] | None:
    """The contents of a constant integer tensor, flat, or None."""
    tensor = constant(value)
    return None if tensor is None else [int(item) for item in tensor.numpy().reshape(-1)]


@overload
def attribute(node: ir.Node, name: str) -> Any: ...
@overload
def attribute(node: ir.Node, name: str, default: Default) -> Default: ...
def attribute(node: ir.Node, name: str, default: object = None) -> object:
    """The value of an attribute; `default`, whose type is that of the attribute, where it is not given."""
    return node.attributes[name].value if name in node.attributes else default


def unused(name: str, names: Container[str | None]) -> str:
    """`name`, with a number behind it where it is among `names`."""
    numbered = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
    return next(free for free in numbered if free not in names)
