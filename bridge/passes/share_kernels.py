"""A parameter that matrix products read in several forms, as the decoder of a tied autoencoder does, -> one tensor that
all of them read. As the kernels of several layers it would be several variables, which train apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import onnx_ir as ir

from bridge.graph.functions import DOMAIN
from bridge.graph.rewriting import Emitter, constant, replace, typed
from bridge.graph.shapes import shape_of
from bridge.weights.recipes import Param, Recipe, Transpose
from bridge.weights.weight import Weight

PRODUCTS = ("Linear", "MatMul")


def share_kernels(model: ir.Model) -> None:
    readers: dict[str, list[ir.Node]] = {}
    for node in model.graph:
        for name in dict.fromkeys(name for weight in _weights(node) for name in weight.recipe.names):
            readers.setdefault(name, []).append(node)
    for nodes in readers.values():
        kernels = [kernel for node in nodes if (kernel := _kernel(node)) is not None]
        whole = {_whole(kernel.recipe) for kernel in kernels}
        alike = len(kernels) == len(nodes) and len(whole) == 1 and None not in whole
        if alike and len({_layer(node) for node in nodes}) > 1:
            _share(nodes, kernels)


def _weights(node: ir.Node) -> Iterator[Weight]:
    return (weight for weight in map(constant, node.inputs) if isinstance(weight, Weight))


def _kernel(node: ir.Node) -> Weight | None:
    """The trained matrix that `node` multiplies by."""
    weight = constant(node.inputs[1]) if node.op_type in PRODUCTS else None
    known = isinstance(weight, Weight) and weight.is_parameter and len(weight.dims) == 2
    return cast("Weight", weight) if known else None


def _whole(recipe: Recipe) -> Param | None:
    """The parameter that this is, as it is or transposed."""
    match recipe:
        case Param() | Transpose(Param()):
            return recipe.parameters[0]
    return None


def _layer(node: ir.Node) -> tuple[Recipe, ...]:
    """What makes two products one layer."""
    return tuple(weight.recipe for weight in _weights(node))


def _share(nodes: list[ir.Node], kernels: list[Weight]) -> None:
    """`nodes`, in order, on one tensor; a bias is added behind the product."""
    emit, kernel = Emitter(nodes[0]), kernels[0]
    stored = emit.tensor(kernel if isinstance(kernel.recipe, Param) else kernel.transpose(1, 0))
    parameter = typed(emit("Parameter", stored, domain=DOMAIN), shape_of(stored), stored)
    for node, recipe in zip(nodes, [kernel.recipe for kernel in kernels], strict=True):
        emit = Emitter(node)
        turned = typed(emit("Transpose", parameter, perm=[1, 0]), shape_of(stored)[::-1], stored)
        out = emit("MatMul", node.inputs[0], parameter if isinstance(recipe, Param) else turned)
        typed(out, shape_of(node.outputs[0]), node.outputs[0])
        replace(node.outputs[0], emit("Add", out, node.inputs[2]) if node.op_type == "Linear" else out)
