"""An `.onnx` file, a ModelProto or an `onnx_ir.Model` -> the same ONNX IR that `export.py` gives.

Files are hostile until checked: sizes are bounded, external data stays inside the model's folder, `onnx.checker`
has the first word. Older opsets are raised to `OPSET` here, so that no builder knows about versions. Every
floating-point initializer becomes a `Weight` named after itself.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import onnx.inliner
import onnx.version_converter
import onnx_ir as ir
from google.protobuf.message import DecodeError

from bridge.errors import SourceError, said
from bridge.functions import OPSET, add_functions
from bridge.weights import Source

# Operators that ONNX defines through other ones, and that no layer of Keras is.
DEFINED = {
    "AffineGrid", "CausalConvWithState", "CenterCropPad", "NegativeLogLikelihoodLoss", "RotaryEmbedding",
    "SoftmaxCrossEntropyLoss", "SwiGLU",
}  # fmt: skip
MAX_BYTES = 8 << 30  # of the file together with its external data


def load(source: str | Path | onnx.ModelProto | ir.Model) -> ir.Model:
    """Read, check and raise the model. Raises `SourceError` saying what is wrong with it."""
    if isinstance(source, ir.Model):
        source = ir.to_proto(source)
    if isinstance(source, str | Path):
        proto, where = _read(Path(source)), str(source)
        subject: onnx.ModelProto | str = str(source)
    else:
        proto, where = source, "the model given"
        subject = proto
    try:
        onnx.checker.check_model(subject)
    except Exception as error:
        raise SourceError(f"{where}: not a valid ONNX model: {said(error)}") from error
    model = ir.from_proto(_defined(_raise(proto, where)))
    _without_fixed_inputs(model)
    return _with_weights(model)


def _without_fixed_inputs(model: ir.Model) -> None:
    """An initializer that is listed as an input too (all were before IR version 4) is a weight, and no input."""
    inputs = model.graph.inputs
    inputs[:] = [value for value in inputs if value.name not in model.graph.initializers]


def _read(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise SourceError(f"{path}: no such file")
    if path.stat().st_size > MAX_BYTES:
        raise SourceError(f"{path}: larger than {MAX_BYTES >> 30} GiB")
    try:
        proto = onnx.load(path, load_external_data=False)
    except (DecodeError, onnx.onnx_cpp2py_export.checker.ValidationError) as error:
        raise SourceError(f"{path}: not an ONNX file, or a truncated one ({said(error)})") from error
    if not proto.HasField("graph"):
        raise SourceError(f"{path}: not an ONNX file: it holds no graph")
    _read_external(proto, path)
    return proto


def _read_external(proto: onnx.ModelProto, path: Path) -> None:
    folder = path.resolve().parent
    names = {
        entry.value
        for tensor in proto.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    for name in sorted(names):
        target = (folder / name).resolve()
        if not target.is_relative_to(folder):
            raise SourceError(f"{path}: external data {name!r} lies outside the model's folder")
        if not target.is_file():
            raise SourceError(f"{path}: external data {name!r} is missing beside it")
    total = path.stat().st_size + sum((folder / name).stat().st_size for name in names)
    if total > MAX_BYTES:
        raise SourceError(f"{path}: larger than {MAX_BYTES >> 30} GiB with its external data")
    try:
        onnx.load_external_data_for_model(proto, str(folder))
    except Exception as error:
        raise SourceError(f"{path}: external data cannot be read: {said(error)}") from error


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
