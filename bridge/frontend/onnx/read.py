"""An `.onnx` file, perhaps from a stranger -> a ModelProto in which everything is within bounds.

Nothing of it is believed before it is measured: the file and its external data are regular files inside one folder,
a tensor holds as many bytes as its dims say, types are known, names can be printed, functions end.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError, Message
from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_tensor, uses_external_data

from bridge.errors import CONTROLS, SourceError, readable, short_message
from bridge.files.atomic import require_file
from bridge.frontend.onnx.attributes import check_attributes
from bridge.frontend.onnx.functions import check_functions
from bridge.frontend.onnx.mapped import MIN_MAPPED_BYTES, read_mapped
from bridge.graph.axes import MAX_RANK
from bridge.graph.walk import Graph, graphs, tensors

MAX_BYTES = 8 << 30  # of the file together with its external data
# By which tensors may exceed the files that they are read from, where they overlap
MAX_SHARED_BYTES = 256 << 20


def read(path: Path) -> onnx.ModelProto:
    """The model in the file, with its external data, of which large weights stay where they are: what reads them maps
    the file into memory. Raises `SourceError`."""
    require_file(path)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise SourceError(f"{path}: larger than {MAX_BYTES >> 30} GiB")
    try:
        proto = read_mapped(path)
    except (DecodeError, onnx.onnx_cpp2py_export.checker.ValidationError) as error:
        raise SourceError(f"{path}: not an ONNX file, or a truncated one ({short_message(error)})") from error
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
    check(proto, str(path))
    _read_external(proto, path, size)
    return proto


def check_in_memory(proto: onnx.ModelProto, where: str) -> None:
    """`check` a model that comes without a folder."""
    check(proto, where)
    for tensor in tensors(proto):
        if uses_external_data(tensor):
            raise SourceError(
                f"{where}: the data of tensor {tensor.name!r} lies in another file; give the path of the model, or "
                f"read it with onnx.load(path)"
            )


def check(proto: onnx.ModelProto, where: str) -> None:
    """Raise `SourceError` if anything in `proto` is out of bounds; reads no file and allocates nothing."""
    if not proto.HasField("graph"):
        raise SourceError(f"{where}: not an ONNX file: it holds no graph")
    if not proto.graph.output:
        raise SourceError(f"{where}: its graph has no outputs")
    _check_texts(proto, where)
    _check_opsets(proto, where)
    for graph in graphs(proto):
        for name in _names(graph):
            if CONTROLS.search(name):
                raise SourceError(f"{where}: the name {readable(name)} holds control characters")
        for value in _typed(graph):
            _check_type(value, value.type, where)
        if getattr(graph, "sparse_initializer", ()) or any(_is_sparse(node) for node in graph.node):
            raise SourceError(
                f"{where}: holds sparse tensors, which are not supported; write them out before"
            )
    for value in proto.graph.input:
        if value.type.HasField("tensor_type"):
            _known(value.type.tensor_type.elem_type, value.name, where)
    for tensor in tensors(proto):
        _check_tensor(tensor, where)
    check_functions(proto, where)
    check_attributes(proto, where)


def _check_opsets(proto: onnx.ModelProto, where: str) -> None:
    """Each domain is imported once, ONNX's own at a version that there is."""
    for imported in proto.opset_import:
        if sum(other.domain == imported.domain for other in proto.opset_import) > 1:
            raise SourceError(f"{where}: imports the operators of {imported.domain or 'ai.onnx'!r} twice")
        if imported.domain in ("", "ai.onnx") and not 1 <= imported.version <= onnx.defs.onnx_opset_version():
            raise SourceError(
                f"{where}: is of opset {imported.version}; onnx {onnx.__version__} knows 1 to "
                f"{onnx.defs.onnx_opset_version()}"
            )


def _check_texts(proto: onnx.ModelProto, where: str) -> None:
    """Every text is one; protobuf gives bytes for what is no UTF-8."""
    waiting: list[Message] = [proto]
    while waiting:
        for field, value in waiting.pop().ListFields():
            values = [value] if isinstance(value, str | bytes | Message) else value
            if field.type == field.TYPE_MESSAGE:
                waiting.extend(values)
            elif field.type == field.TYPE_STRING and any(isinstance(text, bytes) for text in values):
                raise SourceError(f"{where}: holds a {field.name} that is no text of UTF-8")


def _is_sparse(node: onnx.NodeProto) -> bool:
    return any(
        attribute.sparse_tensors or attribute.HasField("sparse_tensor") for attribute in node.attribute
    )


def _names(graph: Graph) -> Iterator[str]:
    yield graph.name
    if isinstance(graph, onnx.GraphProto):
        yield from (value.name for value in (*_typed(graph), *graph.initializer))
    else:
        yield from (graph.domain, *graph.input, *graph.output)
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)


def _typed(graph: Graph) -> Iterator[onnx.ValueInfoProto]:
    if isinstance(graph, onnx.GraphProto):
        yield from (*graph.input, *graph.output)
    yield from graph.value_info


def _check_type(value: onnx.ValueInfoProto, type_: onnx.TypeProto, where: str) -> None:
    kind = type_.WhichOneof("value")
    if kind in ("sequence_type", "optional_type"):
        return _check_type(value, getattr(type_, kind).elem_type, where)
    if kind not in ("tensor_type", "sparse_tensor_type"):
        return None
    tensor = getattr(type_, kind)
    _known(tensor.elem_type, value.name, where, also=onnx.TensorProto.UNDEFINED)
    dims = tensor.shape.dim
    _check_rank(len(dims), value.name, where)
    if any(dim.dim_value < -1 for dim in dims):
        raise SourceError(f"{where}: {value.name} has an axis of a negative size")
    return None


def _known(dtype: int, name: str, where: str, also: int | None = None) -> None:
    if dtype not in set(ir.DataType) - {ir.DataType.UNDEFINED} and dtype != also:
        raise SourceError(f"{where}: {name} has the unknown element type {dtype}")


def _check_rank(rank: int, name: str, where: str) -> None:
    if rank > MAX_RANK:
        raise SourceError(f"{where}: {name} has {rank} axes; numpy's arrays have at most {MAX_RANK}")


def _check_tensor(tensor: onnx.TensorProto, where: str) -> None:
    """Its type is known and it holds as much as its dims say (what lies in other files is measured there)."""
    _known(tensor.data_type, tensor.name, where)
    _check_rank(len(tensor.dims), tensor.name, where)
    if any(dim < 0 for dim in tensor.dims):
        raise SourceError(f"{where}: {tensor.name} has an axis of a negative size")
    if math.prod(max(dim, 1) for dim in tensor.dims) > MAX_BYTES:
        raise SourceError(
            f"{where}: {tensor.name} of shape {list(tensor.dims)} is larger than {MAX_BYTES >> 30} GiB"
        )
    outside, raw = uses_external_data(tensor), tensor.HasField("raw_data")
    if tensor.data_type == onnx.TensorProto.STRING and (outside or raw):
        raise SourceError(f"{where}: {tensor.name} holds texts, which ONNX keeps as texts and not as bytes")
    if outside:
        return
    if raw:
        held, wanted, unit = len(tensor.raw_data), _bytes(tensor), "bytes"
    else:
        field = onnx.helper.tensor_dtype_to_field(tensor.data_type)
        held, wanted, unit = len(getattr(tensor, field)), _items(tensor), "numbers"
    if held != wanted:
        raise SourceError(
            f"{where}: tensor {tensor.name!r} of shape {list(tensor.dims)} holds {held:,} {unit} in place of {wanted:,}"
        )


def _bytes(tensor: onnx.TensorProto) -> int:
    return -(-math.prod(tensor.dims) * ir.DataType(tensor.data_type).bitwidth // 8)


def _items(tensor: onnx.TensorProto) -> int:
    """How many numbers a field of protobuf holds for `tensor`: small ones share one, complex ones take two."""
    count, dtype = math.prod(tensor.dims), ir.DataType(tensor.data_type)
    if dtype in (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128):
        return 2 * count
    return count if dtype == ir.DataType.STRING or dtype.bitwidth >= 8 else _bytes(tensor)


# --- external data -------------------------------------------------------------------------------------------


def _read_external(proto: onnx.ModelProto, path: Path, size: int) -> None:
    """Put the bytes of other files into the tensors that name them, as far as those are not to be mapped."""
    folder = path.resolve().parent
    outside = [tensor for tensor in tensors(proto) if uses_external_data(tensor)]
    files = {
        name: _external_file(path, folder, name) for name in {_information(path, t).location for t in outside}
    }
    for file in {*files.values()}:  # which no Python opens
        sys.audit("open", os.fspath(file), "rb", os.O_RDONLY)
    total = size + sum(file.stat().st_size for file in {*files.values()} - {path.resolve()})
    if total > MAX_BYTES:
        raise SourceError(f"{path}: larger than {MAX_BYTES >> 30} GiB with its external data")
    if sum(map(_bytes, outside)) > total + MAX_SHARED_BYTES:
        raise SourceError(f"{path}: its tensors are larger than the external data that they are read from")
    weights = {
        id(tensor) for tensor in proto.graph.initializer if ir.DataType(tensor.data_type).is_floating_point()
    }
    for tensor in outside:
        information, wanted = _information(path, tensor), _bytes(tensor)
        stored = files[information.location].stat().st_size - (information.offset or 0)
        held = stored if information.length is None else information.length
        if held != wanted or stored < wanted:
            raise SourceError(
                f"{path}: tensor {tensor.name!r} of shape {list(tensor.dims)} takes {wanted:,} bytes, external data "
                f"{information.location!r} gives {max(min(held, stored), 0):,}"
            )
        if id(tensor) in weights and wanted >= MIN_MAPPED_BYTES:
            continue
        try:
            load_external_data_for_tensor(tensor, os.fspath(folder))
        except Exception as error:  # of several libraries, all of which say why
            raise SourceError(f"{path}: external data cannot be read: {short_message(error)}") from error


def _information(path: Path, tensor: onnx.TensorProto) -> ExternalDataInfo:
    try:
        return ExternalDataInfo(tensor)
    except ValueError as error:
        raise SourceError(f"{path}: external data of {tensor.name!r}: {short_message(error)}") from error


def _external_file(path: Path, folder: Path, name: str) -> Path:
    label = f"{path}: external data {short_message(ValueError(name))!r}"
    try:
        target = (folder / name).resolve()
        target.exists()  # raises where no file can have that name
    except (OSError, ValueError, RuntimeError) as error:
        raise SourceError(f"{label}: no such file ({short_message(error)})") from error
    if not target.is_relative_to(folder):
        raise SourceError(f"{label} lies outside the model's folder")
    if not target.exists():
        raise SourceError(f"{label} is missing beside it")
    require_file(target, label)
    return target
