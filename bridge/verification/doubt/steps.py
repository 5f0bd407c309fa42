"""A graph run node by node, each as it is given, so that what one node gives can be changed before others read it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedFunctionsPass

from bridge.errors import NotRun
from bridge.graph.rewriting import is_onnx, read_inside
from bridge.passes.resolve_sequences import SEQUENCES
from bridge.verification.metrics import Arrays
from bridge.verification.reference.as_given import Runner, as_given
from bridge.weights.memory import give_back_freed


@dataclass(frozen=True)
class Ran:
    """A node that has run: what it was given, by the place of each of its inputs, and what it made of it."""

    node: ir.Node
    given: dict[int, np.ndarray]
    made: Arrays
    again: Callable[[dict[int, np.ndarray]], Arrays]  # what it makes of other inputs


@dataclass
class Steps:
    """`model` as single nodes; what the graphs inside of one read from around it comes behind its own inputs."""

    model: ir.Model
    sessions: dict[ir.Node, Runner] = field(default_factory=dict)

    def run(self, inputs: Arrays, changed: Callable[[Ran], Arrays]) -> Arrays:
        """The outputs of the graph where `changed` says what of every node is handed on. Raises what its runner
        raises, where a node does not run alone."""
        graph = self.model.graph
        held = {v: v.const_value.numpy() for v in graph.initializers.values() if v.const_value is not None}
        held |= dict(zip([v for v in graph.inputs if v not in held], inputs, strict=True))
        for node in graph:
            given = {place: held[value] for place, value in enumerate(read_by(node)) if value is not None}
            ran = Ran(node, given, self._alone(node, given), partial(self._alone, node))
            held |= dict(zip(_named(node), changed(ran), strict=True))
            for value in self._read_last[node]:
                held.pop(value, None)
        return [held[value] for value in graph.outputs]

    @cached_property
    def _read_last(self) -> dict[ir.Node, list[ir.Value]]:
        """For each node the values that nobody reads behind it."""
        readers = {
            value: node
            for node in self.model.graph
            for value in (*read_by(node), *node.outputs)
            if value is not None
        }
        found: dict[ir.Node, list[ir.Value]] = {node: [] for node in self.model.graph}
        for value, node in readers.items():
            if value not in self.model.graph.outputs:
                found[node].append(value)
        return found

    def _alone(self, node: ir.Node, given: dict[int, np.ndarray]) -> Arrays:
        read = read_by(node)
        arrays = {value: array for place, array in given.items() if (value := read[place]) is not None}
        if is_onnx(node) and node.op_type in SEQUENCES:
            raise NotRun(f"{node.op_type} is of sequences, which are no arrays")
        if node not in self.sessions:
            types = {value: ir.DataType.from_numpy(array.dtype) for value, array in arrays.items()}
            alone = model_of_one_node(self.model, node, types, _named(node))
            self.sessions[node] = as_given(self_contained(alone), list(arrays.values()))[0]
            give_back_freed()  # which lies in holes between the sessions
        return self.sessions[node](list(arrays.values()))


def read_by(node: ir.Node) -> list[ir.Value | None]:
    """The inputs of `node`, and behind them what the graphs inside it read from around it."""
    bodies = [held.as_graph() for held in node.attributes.values() if held.type == ir.AttributeType.GRAPH]
    graphs = [graph for body in bodies for graph in (body, *body.subgraphs())]
    inside = [inner for body in bodies for inner in ir.traversal.RecursiveGraphIterator(body)]
    made = {value for inner in inside for value in inner.outputs}
    made |= {v for graph in graphs for v in (*graph.inputs, *graph.initializers.values())}
    read = (value for value in read_inside(node) if value is not None and value not in made)
    return [*node.inputs, *dict.fromkeys(read)]


def _named(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.outputs if value.name]


def model_of_one_node(
    model: ir.Model, node: ir.Node, given: dict[ir.Value, ir.DataType], made: Sequence[ir.Value]
) -> ir.Model:
    """A model of a `node` of `model` alone, whose inputs are `given` and whose outputs are `made`."""
    fresh = {v: _like(v, given.get(v)) for v in (*read_by(node), *given) if v is not None}
    outputs = {v: ir.Value(name=v.name, type=v.type, shape=v.shape) for v in node.outputs}
    alone = ir.Node(
        node.domain,
        node.op_type,
        [v and fresh[v] for v in node.inputs],
        list(node.attributes.values()),
        outputs=list(outputs.values()),
    )
    graph = ir.Graph(
        [fresh[v] for v in given],
        [outputs[v] for v in made],
        nodes=[alone],
        initializers=_initializers(fresh.values()),
        opset_imports=dict(model.graph.opset_imports),
        name="alone",
    )
    found = ir.Model(graph, ir_version=model.ir_version, functions=list(model.functions.values()))
    RemoveUnusedFunctionsPass()(found)
    return found


def given_to(node: ir.Node) -> list[ir.Value]:
    """What a node reads, once each, that is no constant."""
    return [v for v in dict.fromkeys(read_by(node)) if v is not None and v.const_value is None]


def self_contained(alone: ir.Model) -> ir.Model | onnx.ModelProto:
    """What `model_of_one_node` gives; written out where graphs inside its node read values of the model that it was
    taken from."""
    (node,) = alone.graph
    return ir.to_proto(alone) if len(read_by(node)) > len(node.inputs) else alone


def _like(value: ir.Value, dtype: ir.DataType | None) -> ir.Value:
    """`value` as an input of another graph, or as an initializer where it has no `dtype`."""
    if dtype is None:
        return ir.Value(name=value.name, type=value.type, const_value=value.const_value)
    return ir.Value(name=value.name, type=ir.TensorType(dtype), shape=value.shape)


def _initializers(values: Iterable[ir.Value]) -> list[ir.Value]:
    return [value for value in values if value.const_value is not None]
