"""An `.onnx` file, a ModelProto or an `onnx_ir.Model` -> the same ONNX IR that `export.py` gives.

`read.py` has the first word, `onnx.checker` the second. Older opsets are raised to `OPSET` here, so that no
builder knows about versions. Every floating-point initializer becomes a `Weight` named after itself.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from bridge.errors import SourceError, short_message
from bridge.frontend.onnx.defined import define
from bridge.frontend.onnx.dequantized import dequantize
from bridge.frontend.onnx.expressions import lower
from bridge.frontend.onnx.mapped import without_mapped
from bridge.frontend.onnx.names import drop_hints, name_sizes
from bridge.frontend.onnx.opsets import raise_opset
from bridge.frontend.onnx.read import check_in_memory, read
from bridge.graph.functions import add_functions
from bridge.graph.rewriting import Emitter, all_nodes, is_onnx, unused
from bridge.weights.weight import State

RECURRENT, STATES = {"LSTM", "GRU", "RNN"}, (5, 6)  # which inputs of theirs are states
MOVES = {
    "Expand",
    "Tile",
    "Slice",
    "Gather",
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Concat",
    "Identity",
}


def load(source: str | Path | onnx.ModelProto | ir.Model) -> ir.Model:
    """Read, check and raise the model. Raises `SourceError` saying what is wrong with it, `UnsupportedError` with the
    nodes of an older opset that cannot be raised."""
    model = _raised(source)
    lower(model)
    define(model)
    return _with_weights(model)


def load_numbers(source: str | Path | onnx.ModelProto | ir.Model) -> ir.Model:
    """The model of numbers that one of integers stands for, as if that were given. Raises what `load` does."""
    model = _raised(source)
    dequantize(model)
    return ir.external_data.load_to_model(model)


def _raised(source: str | Path | onnx.ModelProto | ir.Model) -> ir.Model:
    if isinstance(source, ir.Model):
        source = ir.to_proto(source)
    if isinstance(source, str | Path):
        proto, where = read(Path(source)), str(source)
    else:
        proto, where = source, "the model given"
        check_in_memory(proto, where)
    try:
        onnx.checker.check_model(without_mapped(proto))
    except Exception as error:
        raise SourceError(f"{where}: not a valid ONNX model: {short_message(error)}") from error
    try:
        model = ir.from_proto(proto)
    except Exception as error:  # of several kinds, for what the checker lets pass
        raise SourceError(f"{where}: not a valid ONNX model: {short_message(error)}") from error
    if isinstance(source, str | Path):
        ir.external_data.set_base_dir(model.graph, Path(source).resolve().parent)
    _without_fixed_inputs(model)
    _with_conditions(model)
    name_sizes(model)
    drop_hints(model)
    raise_opset(model)
    return model


def _without_fixed_inputs(model: ir.Model) -> None:
    """An initializer that is listed as an input too (all were before IR version 4) is a weight, and no input."""
    inputs = model.graph.inputs
    inputs[:] = [value for value in inputs if value.name not in model.graph.initializers]


def _with_conditions(model: ir.Model) -> None:
    """A Loop that is given no condition starts, and goes on as long as its body says, as in onnxruntime."""
    for node in all_nodes(model):
        if is_onnx(node, "Loop") and node.inputs[1] is None:
            node.replace_input_with(1, Emitter(node).constant(True, bool))


def _with_weights(model: ir.Model) -> ir.Model:
    """Floating-point numbers are weights wherever the file keeps them: as initializers or in Constant nodes, of the
    graph or of a branch."""
    stored = {value for graph in model.graphs() for value in graph.initializers.values()}
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    state = State()
    for graph in model.graphs():
        for value in list(graph.initializers.values()):
            tensor = value.const_value
            if tensor is None or not tensor.dtype.is_floating_point():
                continue
            array = tensor.numpy()  # of a file perhaps unaligned
            if value in stored and not _is_empty_state(value, array) or _is_learnt(array):
                value.name = name = unused(str(value.name), state.values)
                state.values[name] = array
    state.enter(model)
    ir.external_data.load_to_model(model)  # those that are no weights
    add_functions(model)
    return model


def _is_empty_state(value: ir.Value, array: np.ndarray) -> bool:
    """Whether `value` is zeros that only recurrent layers read, as the states from which they start."""
    return _only_states(value) and not array.any()


def _only_states(value: ir.Value) -> bool:
    uses = value.uses()
    return bool(uses) and all(
        use.idx in STATES
        and use.node.op_type in RECURRENT
        or use.node.op_type in MOVES
        and all(map(_only_states, use.node.outputs))
        for use in uses
    )


def _is_learnt(array: np.ndarray) -> bool:
    """Whether a Constant node that holds `array` may be a weight: not one number throughout, as formulas are written
    with, and no NaN, as masks may hold."""
    return bool(array.size and (array != array.flat[0]).any() and not np.isnan(array).any())
