"""An `.onnx` file, a ModelProto or an `onnx_ir.Model` -> the same ONNX IR that `export.py` gives.

`onnx_read.py` has the first word, `onnx.checker` the second. Older opsets are raised to `OPSET` here, so that no
builder knows about versions. Every floating-point initializer becomes a `Weight` named after itself.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import onnx.inliner
import onnx.version_converter
import onnx_ir as ir

from bridge.errors import SourceError, said
from bridge.frontend.onnx_names import drop_hints, name_sizes
from bridge.frontend.onnx_read import check_in_memory, read
from bridge.functions import OPSET, add_functions
from bridge.weights import Source

# Operators that ONNX defines through other ones, and that no layer of Keras is.
DEFINED = {
    "AffineGrid", "CausalConvWithState", "CenterCropPad", "NegativeLogLikelihoodLoss", "RotaryEmbedding",
    "SoftmaxCrossEntropyLoss", "SwiGLU",
}  # fmt: skip


def load(source: str | Path | onnx.ModelProto | ir.Model) -> ir.Model:
    """Read, check and raise the model. Raises `SourceError` saying what is wrong with it."""
    if isinstance(source, ir.Model):
        source = ir.to_proto(source)
    if isinstance(source, str | Path):
        proto, where = read(Path(source)), str(source)
        subject: onnx.ModelProto | str = str(source)
    else:
        proto, where = source, "the model given"
        subject = proto
        check_in_memory(proto, where)
    try:
        onnx.checker.check_model(subject)
    except Exception as error:
        raise SourceError(f"{where}: not a valid ONNX model: {said(error)}") from error
    try:
        model = ir.from_proto(_defined(_raise(proto, where)))
    except (ir.serde.SerdeError, NotImplementedError) as error:  # what the checker lets pass
        raise SourceError(f"{where}: not a valid ONNX model: {said(error)}") from error
    _without_fixed_inputs(model)
    name_sizes(model)
    drop_hints(model)
    return _with_weights(model)


def _without_fixed_inputs(model: ir.Model) -> None:
    """An initializer that is listed as an input too (all were before IR version 4) is a weight, and no input."""
    inputs = model.graph.inputs
    inputs[:] = [value for value in inputs if value.name not in model.graph.initializers]


def _raise(proto: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """The model at `OPSET` (newer ones are left as they are)."""
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    version = versions.get("", versions.get("ai.onnx", OPSET))
    if version >= OPSET:
        return proto
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return onnx.version_converter.convert_version(proto, OPSET)
    except Exception as error:
        raise SourceError(f"{where}: opset {version} cannot be raised to {OPSET}: {said(error)}") from error


def _defined(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the operators in `DEFINED` replaced by their definitions."""
    left: set[str] = set()
    while (names := {n.op_type for n in proto.graph.node if not n.domain} & DEFINED) and names != left:
        left = names  # some are defined through others; one whose types are not known stays
        typed = onnx.shape_inference.infer_shapes(proto)
        typed.graph.value_info.extend(  # where the inliner looks for the types of initializers
            onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            for tensor in proto.graph.initializer
        )
        try:
            proto = onnx.inliner.inline_selected_functions(
                typed, [("", name) for name in sorted(names)], inline_schema_functions=True
            )
        except RuntimeError:  # it knows no optional input that is left out; the plan will name the operator
            break
    return proto


def _with_weights(model: ir.Model) -> ir.Model:
    source = Source()
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is not None and tensor.dtype.is_floating_point():
            source.values[name] = tensor.numpy()
    source.enter(model)
    add_functions(model)
    return model
