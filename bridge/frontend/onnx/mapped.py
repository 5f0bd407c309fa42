"""An `.onnx` file as a message whose large weights stay in it: external data, of which the file is where they lie."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import onnx
import onnx_ir as ir
from onnx.external_data_helper import uses_external_data

MIN_MAPPED_BYTES = 1 << 20  # of a tensor that stays in the file that it lies in
LONG = 2  # how protobuf writes a field with its length
GRAPH = onnx.ModelProto.DESCRIPTOR.fields_by_name["graph"].number
INITIALIZER = onnx.GraphProto.DESCRIPTOR.fields_by_name["initializer"].number
RAW = onnx.TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number


class Field(NamedTuple):
    """One of a message, and where in the file it, and what it holds, begins and ends."""

    number: int
    kind: int
    start: int
    content: int
    end: int


def read_mapped(path: Path) -> onnx.ModelProto:
    """The message in the file. Raises what `onnx.load` does."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            light = _light(data, path.resolve().name)
        if light is not None:
            return onnx.load_model_from_string(light)
    except (OSError, ValueError):  # of an empty file, or a broken one: `onnx.load` has the words for it
        pass
    return onnx.load(path, load_external_data=False)


def load_mapped(path: Path) -> ir.Model:
    """The same as ONNX IR, whose large weights are mapped where they are read."""
    model = ir.from_proto(read_mapped(path))
    ir.external_data.set_base_dir(model.graph, path.resolve().parent)
    return model


def without_mapped(model: onnx.ModelProto) -> onnx.ModelProto:
    """The message with inputs in the place of what lies outside of it, for who looks at types and shapes."""
    outside = [tensor for tensor in model.graph.initializer if uses_external_data(tensor)]
    if not outside:
        return model
    light, inputs = onnx.ModelProto(), {value.name for value in model.graph.input}
    light.CopyFrom(model)
    for place, tensor in reversed(list(enumerate(model.graph.initializer))):
        if uses_external_data(tensor):
            del light.graph.initializer[place]
    light.graph.input.extend(
        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in outside
        if tensor.name not in inputs
    )
    return light


def _light(data: mmap.mmap, name: str) -> bytes | None:
    """The message without the bytes of large weights, or None if it has none. Raises `ValueError` if it is broken."""
    parts, left_out = list[bytes](), False
    for field in _fields(data, 0, len(data)):
        if field.number != GRAPH or field.kind != LONG:
            parts.append(data[field.start : field.end])
            continue
        graph = list[bytes]()
        for inner in _fields(data, field.content, field.end):
            tensor = _outside(data, inner, name) if inner.number == INITIALIZER else None
            left_out |= tensor is not None
            graph.append(data[inner.start : inner.end] if tensor is None else _written(INITIALIZER, tensor))
        parts.append(_written(GRAPH, b"".join(graph)))
    return b"".join(parts) if left_out else None


def _outside(data: mmap.mmap, initializer: Field, name: str) -> bytes | None:
    """A tensor whose bytes are said to lie in the file called `name`, if it has enough of them."""
    if initializer.end - initializer.content < MIN_MAPPED_BYTES:
        return None
    fields = list(_fields(data, initializer.content, initializer.end))
    raw = [field for field in fields if field.number == RAW and field.kind == LONG]
    if len(raw) != 1 or raw[0].end - raw[0].content < MIN_MAPPED_BYTES:
        return None
    tensor = onnx.TensorProto.FromString(
        b"".join(data[field.start : field.end] for field in fields if field not in raw)
    )
    if uses_external_data(tensor):
        return None
    place = {"location": name, "offset": str(raw[0].content), "length": str(raw[0].end - raw[0].content)}
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in place.items():
        tensor.external_data.add(key=key, value=value)
    return bytes(tensor.SerializeToString())


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[Field]:
    """The fields of the message between two places of the file. Raises `ValueError` where it is none."""
    while at < end:
        start = at
        tag, at = _number(data, at, end)
        content = at
        match tag & 7:
            case 0:  # as a number
                _, at = _number(data, at, end)
            case 1:  # as eight bytes
                at += 8
            case 2:  # with its length
                length, content = _number(data, at, end)
                at = content + length
            case 5:  # as four bytes
                at += 4
            case kind:
                raise ValueError(f"fields of kind {kind}")
        if at > end:
            raise ValueError("cut short")
        yield Field(tag >> 3, tag & 7, start, content, at)


def _number(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """A number as protobuf writes it, seven bits in a byte, and where it ends."""
    found = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte, at = data[at], at + 1
        found |= (byte & 127) << shift
        if byte < 128:
            return found, at
    raise ValueError("a number without end")


def _written(number: int, content: bytes) -> bytes:
    """A field that holds `content`."""
    return _varint(number << 3 | LONG) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])
