"""ONNX's backend interface (`onnx.backend.base`): run a model, or one node, as the Keras model it becomes.

    bridge.backend.prepare(model).run([x, y])

A Keras model is built once the inputs are known. Those that say how the graph is built, such as the shape that a
Reshape takes or the pads of a Pad, become constants of it; the others are the Keras model's inputs. Where such an
input changes, another model is built. With `weights=True` an input that an operator has as its parameter, such as
the kernel of a Conv, becomes a weight of the Keras model, as it is in a trained one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import onnx
import onnx_ir as ir
from onnx.backend.base import Backend, BackendRep

from bridge.build.builder import build
from bridge.frontend.onnx.load import load
from bridge.graph.functions import DOMAIN
from bridge.graph.rewriting import read_inside
from bridge.keras_compat import to_numpy
from bridge.ops import find
from bridge.ops.contract import Kind
from bridge.passes import simplify
from bridge.plan.planner import plan

SIZES_ONLY = {"Shape", "Size"}  # what they give does not depend on the numbers in their inputs


class KerasRep(BackendRep):
    """A model ready to run; `fixed` are the names of the inputs that become constants of it."""

    def __init__(self, proto: onnx.ModelProto, weights: bool = False):
        model = load(proto)
        self._proto = proto
        self._names = [
            value.name for value in model.graph.inputs if value.name not in model.graph.initializers
        ]
        self.fixed = _read_while_planning(model, weights) & set(self._names)
        if weights and len(self.fixed) == len(self._names):  # nothing would be left to run on
            self.fixed = _read_while_planning(model, False) & set(self._names)
        self._models: dict[bytes, keras.Model] = {}

    def run(
        self, inputs: Sequence[np.ndarray] | dict[str, np.ndarray], **kwargs: object
    ) -> tuple[np.ndarray, ...]:
        """The outputs for `inputs`, in the order of the graph or by name."""
        feeds = inputs if isinstance(inputs, dict) else dict(zip(self._names, inputs, strict=False))
        feeds = {
            name: value if isinstance(value, list) else np.asarray(value) for name, value in feeds.items()
        }
        known = ((name, value) for name, value in feeds.items() if name in self.fixed)
        model = self._model({name: np.asarray(value) for name, value in known})
        given = [value for name, value in feeds.items() if name not in self.fixed]
        results = model(given[0] if len(given) == 1 else given)
        results = results if isinstance(results, list | tuple) else [results]
        return tuple(to_numpy(result) for result in results)

    def _model(self, fixed: dict[str, np.ndarray]) -> keras.Model:
        key = b"".join(value.tobytes() + str(value.shape).encode() for value in fixed.values())
        if key not in self._models:
            self._models[key] = build(plan(simplify(load(_with_constants(self._proto, fixed))))).model
        return self._models[key]


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
            if kind is not None and (kind.known or (weights and kind is Kind.EITHER)):
                yield value


def _with_constants(proto: onnx.ModelProto, fixed: dict[str, np.ndarray]) -> onnx.ModelProto:
    """The model with some of its inputs as initializers."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for value in list(copy.graph.input):
        if value.name in fixed:
            copy.graph.input.remove(value)
            copy.graph.initializer.append(onnx.numpy_helper.from_array(fixed[value.name], value.name))
    return copy


prepare = KerasBackend.prepare
run_model = KerasBackend.run_model
run_node = KerasBackend.run_node
supports_device = KerasBackend.supports_device
