"""Operators that are one expression of ONNX's own are written out in them on the way in.

    @lowers("BiasGelu", domain=MICROSOFT)
    def bias_gelu(write, a, b):
        return write("Gelu", write("Add", a, b))

The signature is the schema, as a builder's is: positional parameters are the inputs, keyword-only ones the attributes
with their defaults. What a node has beyond them is refused by name when the model is planned, and so is an output that
the function does not give and somebody reads. `integers.py` has the operators that compute with integers in the
place of numbers, `microsoft.py` those that onnxruntime's optimiser and quantiser write.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterable
from typing import Any, NoReturn

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from bridge.frontend.onnx.old import Before, Ranks
from bridge.graph.provenance import NO_BUILDER
from bridge.graph.rewriting import owner_graph, replace

MICROSOFT = "com.microsoft"
ML = "ai.onnx.ml"
SINGLE = {MICROSOFT, ML}  # domains whose kernels compute in 32 bits
Expression = Callable[..., Any]
# By the tensor that is stored, what it is made into, and the graph of the node
Weights = dict[tuple[ir.Value, Hashable, Hashable], ir.Value]
Table = dict[tuple[str, str], Expression]  # of operators by domain and name
LOWERINGS: Table = {}


class NotSaid(Exception):
    """What a node says cannot be written out; the text says what and the way out."""


class Writer(Before):
    """Writes the nodes that stand in the place of `node`."""

    def __init__(self, node: ir.Node, ranks: Ranks, weights: Weights):
        super().__init__(node, ranks)
        self._weights = weights

    def __call__(self, op: str, *inputs: ir.Value | None, outputs: object = 1, **attributes: object) -> Any:
        """One new node; returns its output, or a tuple where `outputs` is not 1."""
        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        given = {name: value for name, value in attributes.items() if value is not None}
        node = self.put(op, inputs, given, outputs)
        node.name = f"{self.node.name or self.node.outputs[0].name}_{op}"
        return node.outputs[0] if outputs == 1 else tuple(node.outputs)

    def weight(self, stored: ir.Value, how: Hashable, array: np.ndarray) -> ir.Value:
        """`array` as a weight, which is what `stored` amounts to; `how` tells apart what is made of one tensor."""
        key = (stored, how, self.node.graph)
        if key not in self._weights:
            self._weights[key] = value = self("Constant", value=ir.tensor(array))
            before = sum(other is stored for other, *_ in self._weights) - 1
            value.name = f"{stored.name}_as_{array.dtype}{f'_{before + 1}' if before else ''}"
        return self._weights[key]

    def cast(self, x: ir.Value, dtype: ir.DataType) -> ir.Value:
        return x if x.dtype == dtype else self("Cast", x, to=dtype)

    def number(self, value: float, like: ir.Value) -> ir.Value:
        """A scalar of the type of `like`."""
        dtype = np.float32 if like.dtype is None else like.dtype.numpy()
        return self.constant(value, dtype)

    def refuse(self, reason: str) -> NoReturn:
        raise NotSaid(reason)


def known(value: ir.Value | None) -> np.ndarray | None:
    """The constant behind `value`, or None."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def lowers(*names: str, domain: str | tuple[str, ...] = "") -> Callable[[Expression], Expression]:
    """How the operators `names` are written out."""

    return enter(LOWERINGS, names, domain)


def enter(
    table: Table, names: tuple[str, ...], domain: str | tuple[str, ...]
) -> Callable[[Expression], Expression]:
    """Enter a function into `table`, for operators of these names and domains."""

    def enter_one(expression: Expression) -> Expression:
        for name in names:
            for each in (domain,) if isinstance(domain, str) else domain:
                table[each, name] = expression
        return expression

    return enter_one


def lower(model: ir.Model, table: Table = LOWERINGS, weights: Weights | None = None) -> None:
    """Write out every node of `model` that `table` has; one that cannot be keeps the reason for the plan."""
    owners: tuple[ir.Graph | ir.Function, ...] = (model.graph, *model.functions.values())
    if any(_key(node) in table for owner in owners for node in owner.all_nodes()):
        ranks, weights = Ranks(), {} if weights is None else weights
        for owner in owners:
            _lower(owner, table, ranks, weights)
        common.NameFixPass()(model)  # two nodes of a kind may stand in the place of one


def _key(node: ir.Node) -> tuple[str, str]:
    return "" if node.domain == "ai.onnx" else node.domain, node.op_type


def _lower(
    graph: Iterable[ir.Node],
    table: Table,
    ranks: Ranks,
    weights: Weights,
) -> None:
    for node in list(graph):
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
                _lower(attribute.as_graph(), table, ranks, weights)
        expression = table.get(_key(node))
        if expression is None:
            ranks.infer(node, 0)
            continue
        try:
            _write(node, expression, Writer(node, ranks, weights))
        except NotSaid as reason:
            node.meta[NO_BUILDER] = str(reason)


def _write(node: ir.Node, expression: Expression, writer: Writer) -> None:
    inputs, attributes = _arguments(node, inspect.signature(expression), writer)
    results = expression(writer, *inputs, **attributes)
    results = results if isinstance(results, tuple) else (results,)
    for place, old in enumerate(node.outputs):
        missing = place >= len(results) or results[place] is None
        if missing and (old.uses() or old.is_graph_output()):
            writer.refuse(f"its output {place} is read, which has no equal in ONNX's own operators")
    for old, new in zip(node.outputs, results, strict=False):
        if old.uses() or old.is_graph_output():
            _hand_over(old, writer("Identity", new) if _is_shared(old, new) else new)
    owner_graph(node).remove(node, safe=True)


def _is_shared(old: ir.Value, new: ir.Value) -> bool:
    """Whether `new` cannot have the name of `old`, which matters."""
    maker = new.producer()
    if maker is not None and maker.op_type == "Constant":
        return old.is_graph_output()
    return maker is None or bool(new.uses())


def _hand_over(old: ir.Value, new: ir.Value) -> None:
    """Everything that read `old` reads `new`, which has its name unless it is a constant."""
    maker = new.producer()
    if maker is None or maker.op_type != "Constant":
        new.name, old.name = old.name, None
    replace(old, new)


def _arguments(
    node: ir.Node, signature: inspect.Signature, writer: Writer
) -> tuple[list[ir.Value | None], dict[str, object]]:
    parameters = list(signature.parameters.values())[1:]
    names = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    others = any(p.kind is p.VAR_KEYWORD for p in parameters)
    places = [p for p in parameters if p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD)]
    variadic = any(p.kind is p.VAR_POSITIONAL for p in places)
    inputs = list(node.inputs)
    for place, value in enumerate(inputs[len(places) :], len(places)):
        if value is not None and not variadic:
            writer.refuse(f"input {place} is not handled")
    unknown = [name for name in node.attributes if name not in names]
    if unknown and not others:
        writer.refuse("; ".join(f"attribute {name} is not handled" for name in unknown))
    if referring := [a.name for a in node.attributes.values() if a.is_ref()]:
        writer.refuse(f"its {referring[0]} is an attribute of the function around it; write the number")
    given = {name: a.value for name, a in node.attributes.items()}
    return inputs if variadic else inputs[: len(places)], given
