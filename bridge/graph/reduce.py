"""The smallest graph that still shows something: nodes, inputs, attributes and sizes are taken away while it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx
from onnx import numpy_helper

from bridge.graph.shapes import typed_by_onnx

Fails = Callable[[onnx.ModelProto], bool]


def reduce(model: onnx.ModelProto, fails: Fails) -> onnx.ModelProto:
    """The smallest model found of which `fails` is still true, as it is of `model`.

    Candidates need not be valid: `fails` has to be false of those that are not.
    """
    lifted = _lifted(model)
    model, found = lifted if fails(lifted) else model, True
    while found:
        found = False
        for smaller in _smaller(model):
            if fails(smaller):
                model, found = smaller, True
                break
    return model


def _smaller(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """Models with one thing less, the largest cuts first."""
    typed = _typed(model)
    for change in (
        _one_output,
        _without_node,
        _without_attribute,
        _without_optional,
        _with_fixed_sizes,
        _with_size,
    ):
        yield from change(model, typed)


Types = dict[str, onnx.TypeProto]


def _typed(model: onnx.ModelProto) -> Types:
    """The types of all values, as far as they can be inferred."""
    try:
        graph = typed_by_onnx(model, data_prop=True).graph
    except onnx.shape_inference.InferenceError:
        graph = model.graph
    values = [*graph.input, *graph.value_info, *graph.output]
    return {value.name: value.type for value in values if value.type.HasField("tensor_type")}


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _lifted(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same with its constants among the initializers, where their sizes change with those of the others."""
    smaller = _copy(model)
    nodes = list(smaller.graph.node)
    constants = [node for node in nodes if node.op_type == "Constant" and node.attribute[0].name == "value"]
    for node in constants:
        tensor = smaller.graph.initializer.add()
        tensor.CopyFrom(node.attribute[0].t)
        tensor.name = node.output[0]
        smaller.graph.node.remove(node)
    return smaller


def _pruned(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without the nodes that no output needs, and without what only those read."""
    graph, nodes = model.graph, []
    wanted = {value.name for value in graph.output}
    for node in reversed(graph.node):
        if wanted & {name for name in node.output if name}:
            nodes.append(node)
            wanted |= {name for name in _read(node) if name}
    kept = [_copied(node) for node in reversed(nodes)]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(kept)
    for field in (graph.initializer, graph.input):
        left = [_copied(item) for item in field if item.name in wanted]
        del field[:]
        field.extend(left)
    return model


def _copied(message: onnx.NodeProto) -> onnx.NodeProto:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _read(node: onnx.NodeProto) -> Iterator[str]:
    """What a node reads, the graphs within it too."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from (value.name for value in graph.output)
            for inner in graph.node:
                yield from _read(inner)


def _one_output(model: onnx.ModelProto, types: Types) -> Iterator[onnx.ModelProto]:
    """One output alone, or any value inside instead of them."""
    outputs = [value.name for value in model.graph.output]
    inside = [
        name
        for node in model.graph.node[:-1]
        for name in node.output
        if name in types and name not in outputs
    ]
    for name in [*(outputs if len(outputs) > 1 else []), *inside]:
        smaller = _copy(model)
        del smaller.graph.output[:]
        smaller.graph.output.append(_value(name, types, fixed=False))
        yield _pruned(smaller)


def _value(name: str, types: Types, fixed: bool) -> onnx.ValueInfoProto:
    """`name` as an input or, with sizes left open, as an output of the graph."""
    value = onnx.ValueInfoProto(name=name, type=types[name])
    for axis, dim in enumerate(value.type.tensor_type.shape.dim):
        if not fixed or not dim.HasField("dim_value"):
            dim.dim_param = dim.dim_param or f"{name}_{axis}"
    return value


def _without_node(model: onnx.ModelProto, types: Types) -> Iterator[onnx.ModelProto]:
    """A node less: what it gave is an input of the graph, or one of its own inputs."""
    for index, node in enumerate(model.graph.node):
        made = [name for name in node.output if name]
        if all(name in types for name in made):
            smaller = _copy(model)
            del smaller.graph.node[index]
            outputs = {value.name for value in smaller.graph.output}
            if not outputs & set(made):
                smaller.graph.input.extend(_value(name, types, fixed=True) for name in made)
                yield _pruned(smaller)
        for name in node.input if len(made) == 1 else ():
            smaller = _copy(model)
            del smaller.graph.node[index]
            yield _pruned(_renamed(smaller, made[0], name))


def _renamed(model: onnx.ModelProto, old: str, new: str) -> onnx.ModelProto:
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
    for value in model.graph.output:
        value.name = new if value.name == old else value.name
    return model


def _without_attribute(model: onnx.ModelProto, types: Types) -> Iterator[onnx.ModelProto]:
    for index, node in enumerate(model.graph.node):
        for place in range(len(node.attribute)):
            smaller = _copy(model)
            del smaller.graph.node[index].attribute[place]
            yield smaller


def _without_optional(model: onnx.ModelProto, types: Types) -> Iterator[onnx.ModelProto]:
    """A node without one of its inputs, or with fewer outputs."""
    outputs = {value.name for value in model.graph.output}
    for index, node in enumerate(model.graph.node):
        for place in reversed(range(1, len(node.input))):
            if node.input[place]:
                smaller = _copy(model)
                inputs = smaller.graph.node[index].input
                inputs[place] = ""
                while not inputs[-1]:
                    del inputs[-1]
                yield _pruned(smaller)
        read = {name for other in model.graph.node for name in _read(other)} | outputs
        for place, name in enumerate(node.output):
            if len(node.output) > 1 and name and name not in read:
                smaller = _copy(model)
                smaller.graph.node[index].output[place] = ""
                yield smaller


def _with_fixed_sizes(model: onnx.ModelProto, types: Types) -> Iterator[onnx.ModelProto]:
    """A free axis of a number instead."""
    dims = [dim for value in model.graph.input for dim in value.type.tensor_type.shape.dim]
    for name in dict.fromkeys(dim.dim_param for dim in dims if dim.dim_param):
        for size in (1, 2, 3):
            smaller = _copy(model)
            for value in smaller.graph.input:
                for dim in value.type.tensor_type.shape.dim:
                    if dim.dim_param == name:
                        dim.dim_value = size
            yield smaller


def _with_size(model: onnx.ModelProto, types: Types) -> Iterator[onnx.ModelProto]:
    """All axes of one size smaller, those of the constants too."""
    arrays = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    dims = [dim.dim_value for value in model.graph.input for dim in value.type.tensor_type.shape.dim]
    sizes = {n for n in [*dims, *(n for array in arrays for n in array.shape)] if n > 1}
    for size in sorted(sizes, reverse=True):
        for less in sorted({1, size // 2, size - 1}):
            smaller = _copy(model)
            for value in smaller.graph.input:
                for dim in value.type.tensor_type.shape.dim:
                    if dim.dim_value == size:
                        dim.dim_value = less
            for tensor, array in zip(smaller.graph.initializer, arrays, strict=True):
                if size in array.shape:
                    cut = array[tuple(slice(less) if n == size else slice(None) for n in array.shape)]
                    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(cut), tensor.name))
            yield smaller
