"""An ONNX file: the graph that the model was built of, operators of ours written out, with the weights of now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnx.checker
import onnx_ir as ir
from onnx_ir.passes import common

from bridge.errors import UnsupportedError, calling, short_message
from bridge.graph.functions import DOMAIN
from bridge.graph.rewriting import Emitter, all_nodes, input_of, unused
from bridge.graph.session import session
from bridge.graph.shapes import rank
from bridge.package import PACKAGE
from bridge.passes.cancel_inverses import cancel_inverses
from bridge.passes.common import drop_unused, lift_constants, name_values
from bridge.passes.infer_shapes import infer_shapes
from bridge.passes.remove_identities import remove_identities
from bridge.serving.written import Made, Written
from bridge.verification.runners import fit_masks, forget_shapes
from bridge.weights.recipes import Param, Transpose
from bridge.weights.weight import Weight

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bridge.verification.metrics import Arrays
    from bridge.verification.trials import Run

MAX_INLINE_BYTES = 1 << 30  # of weights within the file, which holds two gigabytes
SMALL_BYTES = 1 << 10  # of a tensor that stays in the file all the same


def write(made: Made, path: Path) -> Written:
    """The file, and beside it the weights where they are too large for one. Raises `UnsupportedError` where onnxruntime
    has no kernel for a node."""
    files = write_graph(made, path)
    return Written(files, run(path, made.inputs, made.outputs))


def write_graph(made: Made, path: Path, title: str = "an ONNX file") -> tuple[Path, ...]:
    """The paths of what was written."""
    model = _plain(made.graph(title).filled(made.weights))
    tensors = [value.const_value for value in model.graph.initializers.values()]
    large = sum(tensor.nbytes for tensor in tensors if tensor is not None) > MAX_INLINE_BYTES
    beside = path.with_name(f"{path.name}.data")
    ir.save(model, path, external_data=beside.name if large else None, size_threshold_bytes=SMALL_BYTES)
    onnx.checker.check_model(str(path))
    return (path, beside) if large else (path,)


def run(path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> Run:
    """The file as onnxruntime runs it."""
    try:
        loaded = session(path.read_bytes(), str(path.parent.resolve()), optimized=True)
    except Exception as error:
        reason = f"onnxruntime does not load the file: {short_message(error)}; export it as 'saved_model'"
        raise UnsupportedError([reason]) from error

    def call(arrays: Arrays) -> Arrays:
        with calling():
            made: Arrays = loaded.run(list(outputs), dict(zip(inputs, arrays, strict=True)))
            return made

    return call


def _plain(model: ir.Model) -> ir.Model:
    """The graph in operators of ONNX alone, as every runtime reads it."""
    for node in all_nodes(model):
        if (node.domain, node.op_type) == (DOMAIN, "Linear"):
            _as_gemm(node)
    common.InlinePass(criteria=lambda function: function.domain == DOMAIN)(model)
    model.functions.clear()
    for run_pass in (
        lift_constants, remove_identities, infer_shapes, cancel_inverses, fit_masks, drop_unused, name_values,
    ):  # fmt: skip
        run_pass(model)
    forget_shapes(model)
    common.DeduplicateInitializersPass(size_limit=SMALL_BYTES)(model)
    _name_weights(model)
    model.graph.opset_imports.pop(DOMAIN, None)
    model.producer_name, model.producer_version = PACKAGE, None
    model.graph.name = model.graph.name or "model"
    return model


def _as_gemm(node: ir.Node) -> None:
    """A Linear of two axes as the node that has the matrix as torch has it."""
    x, matrix = input_of(node, 0), input_of(node, 1).const_value
    if (
        isinstance(matrix, Weight)
        and isinstance(matrix.recipe, Transpose)
        and x.shape is not None
        and rank(x) == 2
    ):
        node.replace_input_with(1, Emitter(node).tensor(matrix.transpose(1, 0)))
        node.domain, node.op_type, node.attributes["transB"] = "", "Gemm", ir.AttrInt64("transB", 1)


def _name_weights(model: ir.Model) -> None:
    """A weight that is a parameter of torch's is called as there; one that is made of such, after the first of them."""
    names = {value.name for graph in model.graphs() for value in graph.initializers.values()}
    names |= {value.name for node in all_nodes(model) for value in node.outputs}
    for graph in model.graphs():
        for value in list(graph.initializers.values()):
            if not isinstance(value.const_value, Weight) or value.is_graph_output():
                continue
            recipe = value.const_value.recipe
            name = recipe.names[0] if isinstance(recipe, Param) else f"{recipe.names[0]}_onnx"
            names.discard(value.name)
            value.name = unused(name, names)
            names.add(value.name)
