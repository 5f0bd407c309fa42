"""ONNX's backend interface (`onnx.backend.base`): run a model, or one node, as the Keras model it becomes.

    bridge.backend.prepare(model).run([x, y])

A Keras model is built once the inputs are known. Those that say how the graph is built, such as the shape that a
Reshape takes or the pads of a Pad, become constants of it; the others are the Keras model's inputs. Where such an
input changes, another model is built. With `weights=True` an input that an operator has as its parameter, such as
the kernel of a Conv, becomes a weight of the Keras model, as it is in a trained one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
import onnx
import onnx_ir as ir
from onnx.backend.base import Backend, BackendRep

from bridge.build.builder import build
from bridge.frontend.onnx.load import load
from bridge.graph import structure
from bridge.graph.few_bits import CARRIERS, carried
from bridge.graph.functions import DOMAIN
from bridge.graph.rewriting import is_onnx, read_inside
from bridge.keras_compat import to_numpy
from bridge.ops import find
from bridge.ops.contract import Kind
from bridge.passes import simplify
from bridge.passes.resolve_sequences import ASKED
from bridge.plan.planner import plan

Given: TypeAlias = np.ndarray | list[np.ndarray] | None
Parts: TypeAlias = Mapping[
    str, list[np.ndarray] | None
]  # of sequences and optionals by name; None holds nothing

CONSTANT = {"MelWeightMatrix"}  # worked out while planning or not at all
SIZES_ONLY = {"Shape", "Size"}  # what they give does not depend on the numbers in their inputs


class KerasRep(BackendRep):
    """A model ready to run; `fixed` are the names of the inputs that become constants of it."""

    def __init__(self, proto: onnx.ModelProto, weights: bool = False):
        model = load(proto)
        self._proto = proto
        self._names = [
            value.name for value in model.graph.inputs if value.name not in model.graph.initializers
        ]
        tensors = {value.name for value in proto.graph.input if value.type.HasField("tensor_type")}
        self.fixed = _read_while_planning(model, weights) & tensors
        if weights and len(self.fixed) == len(self._names):  # nothing would be left to run on
            self.fixed = _read_while_planning(model, False) & tensors
        self.models: dict[bytes, keras.Model] = {}  # by what is fixed in each
        self._places: dict[bytes, Sequence[structure.Path]] = {}

    def run(
        self, inputs: Sequence[Given] | dict[str, Given], **kwargs: object
    ) -> tuple[np.ndarray | list[np.ndarray], ...]:
        """The outputs for `inputs`, in the order of the graph or by name. A sequence is a list, an optional that holds
        nothing is None."""
        feeds = inputs if isinstance(inputs, dict) else dict(zip(self._names, inputs, strict=False))
        lists = {
            v.name: feeds.pop(v.name) for v in self._proto.graph.input if not v.type.HasField("tensor_type")
        }
        parts: Parts = {
            name: None if given is None else list(map(np.asarray, _listed(given)))
            for name, given in lists.items()
        }
        arrays = {name: np.asarray(value) for name, value in feeds.items()}
        key, places = self._model({n: value for n, value in arrays.items() if n in self.fixed}, parts)
        given = [carried(value) for name, value in arrays.items() if name not in self.fixed]
        given += [carried(part) for some in parts.values() for part in some or ()]
        given = given or [np.zeros(1, np.float32)]  # of what nothing reads
        found = self.models[key](given[0] if len(given) == 1 else given)
        flat = found if isinstance(found, list | tuple) else [found]
        results = structure.nested(places, list(map(to_numpy, flat)))
        return tuple(
            _typed(result, value) for result, value in zip(results, self._proto.graph.output, strict=True)
        )

    def _model(self, fixed: dict[str, np.ndarray], parts: Parts) -> tuple[bytes, Sequence[structure.Path]]:
        """Which of the models it is, and where in what that gives each output is."""
        key = b"".join(value.tobytes() + str(value.shape).encode() for value in fixed.values())
        shapes = {n: None if some is None else [part.shape for part in some] for n, some in parts.items()}
        key += str(shapes).encode()
        if key not in self.models:
            proto = _between_carriers(_with_parts(_with_constants(self._proto, fixed), parts))
            simple = simplify(load(proto))
            self._places[key] = _spread(simple)
            self.models[key] = build(plan(simple)).model
        return key, self._places[key]


class KerasBackend(Backend):
    """Keras as a backend of ONNX, on the devices that Keras's own backend runs on."""

    @classmethod
    def prepare(
        cls, model: onnx.ModelProto, device: str = "CPU", weights: bool = False, **kwargs: object
    ) -> KerasRep:
        return KerasRep(model, weights)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Sequence[np.ndarray],
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype, tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[np.ndarray, ...]:
        arrays = [np.asarray(value) for value in inputs]
        names = [name for name in node.input if name]
        graph = onnx.helper.make_graph(
            [node],
            node.op_type,
            [
                onnx.helper.make_tensor_value_info(
                    name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
                )
                for name, array in zip(names, arrays, strict=True)
            ],
            [onnx.helper.make_empty_tensor_value_info(name) for name in node.output if name],
        )
        opset = onnx.helper.make_opsetid("", kwargs.get("opset_version", onnx.defs.onnx_opset_version()))
        model = onnx.shape_inference.infer_shapes(onnx.helper.make_model(graph, opset_imports=[opset]))
        return cls.run_model(model, arrays, device)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device.split(":")[0] == "CPU"


def _read_while_planning(model: ir.Model, weights: bool) -> set[str]:
    """The values that an operand which has to be known (or may be a weight) is made of."""
    wanted = list(_known_operands(model, weights))
    seen: set[ir.Value] = set()
    while wanted:
        value = wanted.pop()
        if value is None or value in seen:
            continue
        seen.add(value)
        node = value.producer()
        if node is not None and node.op_type not in SIZES_ONLY:
            wanted += [*node.inputs, *read_inside(node)]
    return {str(value.name) for value in seen}


def _known_operands(model: ir.Model, weights: bool) -> Iterator[ir.Value | None]:
    for node in model.graph:
        # ONNX's, or ours of a recurrent layer
        builder = find(node.domain, node.op_type) or find(DOMAIN, node.op_type)
        for index, value in enumerate(node.inputs):
            kind = getattr(builder and builder.parameter(index), "kind", None)
            asks = node.op_type in CONSTANT or index in ASKED.get(node.op_type, ())
            asks = asks or index < 2 and _repeats_sequences(node)
            if asks or kind is not None and (kind.known or (weights and kind is Kind.EITHER)):
                yield value


def _repeats_sequences(node: ir.Node) -> bool:
    """Whether it is a Loop that carries what is no tensor, so that it has to be written out."""
    others = (value for value in node.inputs if value is not None and value.type is not None)
    return node.op_type == "Loop" and not all(isinstance(value.type, ir.TensorType) for value in others)


def _with_constants(proto: onnx.ModelProto, fixed: dict[str, np.ndarray]) -> onnx.ModelProto:
    """The model with some of its inputs as initializers."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for value in list(copy.graph.input):
        if value.name in fixed:
            copy.graph.input.remove(value)
            copy.graph.initializer.append(onnx.numpy_helper.from_array(fixed[value.name], value.name))
    return copy


def _listed(given: object) -> Sequence[Any]:
    return given if isinstance(given, list | tuple) else [given]


def _with_parts(proto: onnx.ModelProto, parts: Parts) -> onnx.ModelProto:
    """The model with an input for each part of what is no tensor."""
    graph, helper, nodes = proto.graph, onnx.helper, []
    for value in [value for value in graph.input if value.name in parts]:
        optional, arrays = value.type.HasField("optional_type"), parts[value.name]
        kind = value.type.optional_type.elem_type if optional else value.type
        names = [f"{value.name}_{place}" for place in range(len(arrays or ()))]
        types = (helper.np_dtype_to_tensor_dtype(array.dtype) for array in arrays or ())
        rows = zip(names, types, (array.shape for array in arrays or ()), strict=True)
        graph.input.extend(helper.make_tensor_value_info(*row) for row in rows)
        graph.input.remove(value)
        held = f"{value.name}_held" if optional else value.name
        if kind.HasField("sequence_type"):
            element = kind.sequence_type.elem_type.tensor_type.elem_type
            nodes.append(
                helper.make_node("SequenceConstruct", names, [held])
                if names
                else helper.make_node("SequenceEmpty", [], [held], dtype=element)
            )
        elif names:
            nodes.append(helper.make_node("Identity", names, [held]))
        if optional and arrays is None:
            nodes.append(helper.make_node("Optional", [], [value.name], type=kind))
        elif optional:
            nodes.append(helper.make_node("Optional", [held], [value.name]))
    for node in reversed(nodes):
        graph.node.insert(0, node)
    return proto


def _spread(model: ir.Model) -> Sequence[structure.Path]:
    """Give the parts of every sequence among the outputs, and say where each stands."""
    places: list[structure.Path] = []
    outputs: list[ir.Value] = []
    for place, value in enumerate(model.graph.outputs):
        node = value.producer()
        parts = (
            [part for part in node.inputs if part is not None] if is_onnx(node, "SequenceConstruct") else None
        )
        outputs += [value] if parts is None else parts
        places += [(place,)] if parts is None else [(place, number) for number in range(len(parts))]
    model.graph.outputs[:] = outputs
    return places


def _between_carriers(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model, given and giving what Keras lacks in the types that carry it, and with an input that nothing reads
    where it has none."""
    graph, helper = proto.graph, onnx.helper
    for value in graph.input:
        if (carrier := _carrier(value)) is not None:
            cast = helper.make_node(
                "Cast", [f"{value.name}_carried"], [value.name], to=_type_of(value).elem_type
            )
            graph.node.insert(0, cast)
            value.name, _type_of(value).elem_type = f"{value.name}_carried", carrier
    for value in graph.output:
        if (carrier := _carrier(value)) is not None:
            graph.node.append(helper.make_node("Cast", [value.name], [f"{value.name}_carried"], to=carrier))
            value.name, _type_of(value).elem_type = f"{value.name}_carried", carrier
    if not graph.input:
        graph.input.append(helper.make_tensor_value_info("unread", onnx.TensorProto.FLOAT, [1]))
    return proto


def _type_of(value: onnx.ValueInfoProto) -> onnx.TypeProto.Tensor:
    return value.type.tensor_type


def _carrier(value: onnx.ValueInfoProto) -> int | None:
    """The type that carries one which Keras lacks."""
    carrier = CARRIERS.get(ir.DataType(_type_of(value).elem_type))
    return None if carrier is None else onnx.helper.np_dtype_to_tensor_dtype(np.dtype(carrier))


def _typed(array: Any, value: onnx.ValueInfoProto) -> Any:
    """`array` in the type of the output `value`, where another carried it."""
    if isinstance(array, list) or _carrier(value) is None:
        return array
    return array.astype(onnx.helper.tensor_dtype_to_np_dtype(_type_of(value).elem_type))


prepare = KerasBackend.prepare
run_model = KerasBackend.run_model
run_node = KerasBackend.run_node
supports_device = KerasBackend.supports_device
