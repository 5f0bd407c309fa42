"""`Blueprint`: the graph that a Keras model was built of, without the numbers of its weights. Those are the model's,
and come back by the recipes of its variables."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir
from onnx.external_data_helper import uses_external_data

from bridge.graph.functions import add_functions
from bridge.graph.provenance import torch_path
from bridge.graph.rewriting import all_nodes, unused
from bridge.graph.shapes import shape_of
from bridge.graph.walk import tensors
from bridge.weights.recipes import Recipe
from bridge.weights.soundness import require_sound
from bridge.weights.weight import State, Weight
from bridge.weights.weight_map import values_held

if TYPE_CHECKING:
    from bridge.graph.axes import Perm
    from bridge.weights.recipes import Written
    from bridge.weights.weight_map import WeightMap


@dataclass(frozen=True)
class Blueprint:
    """The graph, and how each weight of it is made of what torch calls the parameters.

    Attributes:
        model: operators of ONNX and of ours (`bridge.graph.functions`). The initializers that `recipes` names have a
            type, a shape, and no numbers.
        recipes: of these, by their names.
    """

    model: ir.Model
    recipes: Mapping[str, Recipe]

    def filled(self, weights: WeightMap) -> ir.Model:
        """A copy of the graph with the numbers that the variables of the model hold now. Raises `WeightsError` where
        variables that hold one parameter have become unlike."""
        state = replace(weights.state, values=values_held(weights))
        model = self.model.clone()
        for value in _initializers(model):
            recipe = self.recipes.get(str(value.name))
            if recipe is not None and value.dtype is not None:
                value.const_value = Weight(recipe, state, value.dtype)
        return model

    @property
    def nbytes(self) -> int:
        """Of what it holds."""
        return sum(
            held.nbytes for value in _initializers(self.model) if (held := value.const_value) is not None
        )

    def to_bytes(self) -> bytes:
        """The graph, each weight of it a number that stands for none."""
        model = self.model.clone()
        for value in _initializers(model):
            if value.name in self.recipes and value.dtype is not None:
                value.const_value = ir.tensor(np.zeros((), value.dtype.numpy()), name=value.name)
        for key in list(model.functions):
            del model.functions[key]  # which are ours
        return ir.to_proto(model).SerializeToString()

    def to_json(self) -> dict[str, list[Written]]:
        """The recipes in types of JSON."""
        return {name: recipe.to_json() for name, recipe in self.recipes.items()}

    @staticmethod
    def read(graph: bytes, recipes: Mapping[str, list[Written]], state: State) -> Blueprint:
        """What `to_bytes` and `to_json` wrote. Raises `ValueError` where that does not fit together."""
        try:
            proto = onnx.ModelProto.FromString(graph)
            if any(uses_external_data(tensor) for tensor in tensors(proto)):
                raise ValueError("its graph reads other files")
            model = ir.from_proto(proto)
        except Exception as error:  # protobuf's own, and ONNX IR's
            raise ValueError(f"its graph cannot be read: {error}") from error
        model.functions.clear()
        add_functions(model)
        read = {name: Recipe.from_json(recipe) for name, recipe in recipes.items()}
        shapes = {name: value.shape for name, value in state.values.items()}
        held = {str(value.name): value for value in _initializers(model)}
        for name, recipe in read.items():
            require_sound(recipe, shapes)
            if name not in held:
                raise ValueError(f"its graph has no weight {name}")
            held[name].const_value, held[name].shape = None, ir.Shape(recipe.shape)
        return Blueprint(model, read)


def draw(
    model: ir.Model, inputs: Sequence[str], outputs: Sequence[str], perms: Mapping[ir.Value, Perm]
) -> Blueprint:
    """The blueprint of what was built of `model`. `inputs` and `outputs` are the names that its own get; those that
    `perms` knows get their axes in that order."""
    drawn = model.clone()
    drawn.meta.pop("state", None)
    _forget_origin(drawn)
    ends = zip(
        (*model.graph.inputs, *model.graph.outputs), (*drawn.graph.inputs, *drawn.graph.outputs), strict=True
    )
    orders = {ours: perm for theirs, ours in ends if (perm := perms.get(theirs)) is not None}
    names = {value.name for value in _values(drawn)}
    graph = drawn.graph
    graph.inputs[:] = [_turned_input(graph, value, orders.get(value)) for value in graph.inputs]
    graph.outputs[:] = [
        _own_output(graph, place, orders.get(value)) for place, value in enumerate(graph.outputs)
    ]
    ends_named = dict(zip((*graph.inputs, *graph.outputs), (*inputs, *outputs), strict=True))
    wanted = {*names, *ends_named.values()}
    for value in _values(drawn):
        if value not in ends_named and value.name in ends_named.values():
            value.name = unused(f"{value.name}_inside", wanted)
            wanted.add(value.name)
    for place, value in enumerate(ends_named):  # which may be called as another one is now
        value.name = unused(f"end_{place}", wanted)
    for value, name in ends_named.items():
        value.name = name
    return Blueprint(drawn, dict(_taken(drawn)))


def _forget_origin(model: ir.Model) -> None:
    """Of the code that a node comes from stays the path of its torch module, as its name."""
    names, counts = set[str | None](), Counter[str]()
    for node in all_nodes(model):
        name = torch_path(node) or node.op_type.lower()
        counts[name] += 1
        node.name = unused(name if counts[name] == 1 else f"{name}_{counts[name]}", names)
        names.add(node.name)
    owners: list[ir.Model | ir.Graph | ir.Node | ir.Value] = [
        model,
        *model.graphs(),
        *all_nodes(model),
        *_values(model),
    ]
    for owner in owners:
        owner.metadata_props.clear()
        owner.doc_string = None


def _turned_input(graph: ir.Graph, value: ir.Value, perm: Perm) -> ir.Value:
    """The input that `value` is made of, whose axes are in the order `perm`."""
    if perm is None:
        return value
    dims = shape_of(value)
    given = ir.Value(name=f"{value.name}_given", type=value.type, shape=ir.Shape([dims[a] for a in perm]))
    back = [int(axis) for axis in np.argsort(perm)]
    node = ir.node("Transpose", [given], {"perm": back}, outputs=[value])
    if len(graph):
        graph.insert_before(graph[0], node)
    else:
        graph.append(node)
    return given


def _own_output(graph: ir.Graph, place: int, perm: Perm) -> ir.Value:
    """What stands for output `place`: itself where that is a value of its own, in the order that it has."""
    value = graph.outputs[place]
    if perm is None and value.producer() is not None and value not in graph.outputs[:place]:
        return value
    attributes = {} if perm is None else {"perm": list(perm)}
    node = ir.node("Identity" if perm is None else "Transpose", [value], attributes)
    dims = shape_of(value)
    node.outputs[0].type = value.type
    node.outputs[0].shape = ir.Shape([dims[axis] for axis in (perm or range(len(dims)))])
    graph.append(node)
    return node.outputs[0]


def _values(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        yield from graph.inputs
        yield from graph.initializers.values()
    yield from itertools.chain.from_iterable(node.outputs for node in all_nodes(model))


def _initializers(model: ir.Model) -> list[ir.Value]:
    return [value for graph in model.graphs() for value in graph.initializers.values()]


def _taken(model: ir.Model) -> Iterator[tuple[str, Recipe]]:
    """Take the numbers of every weight that can come back, and give its name and recipe. Others become constants."""
    for value in _initializers(model):
        held = value.const_value
        if isinstance(held, Weight) and held.recipe.invertible:
            value.type, value.shape, value.const_value = ir.TensorType(held.dtype), ir.Shape(held.dims), None
            yield str(value.name), held.recipe
        elif isinstance(held, Weight | ir.ExternalTensor):  # of a source that may go
            value.const_value = ir.tensor(np.array(held.numpy()), name=value.name)
