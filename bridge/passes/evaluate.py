"""What a node gives for known inputs: by onnxruntime, or by ONNX's reference evaluator where that has no kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from bridge.graph.functions import OPSET
from bridge.graph.rewriting import sizes
from bridge.graph.session import session

IR_VERSION = 10  # which every onnxruntime of ours reads


def evaluate(node: ir.Node, inputs: Sequence[ir.TensorProtocol | None]) -> list[np.ndarray]:
    """The outputs of `node` as arrays, those too that nobody reads; none where neither can work them out, so that the
    node stays in the graph, where the run will tell."""
    pairs = zip(node.inputs, inputs, strict=True)
    given = {str(value.name): tensor for value, tensor in pairs if value is not None and tensor is not None}
    model, feeds = _alone(node, given), {name: tensor.numpy() for name, tensor in given.items()}
    for run in (_by_reference,) if _ends_the_process(node, feeds) else (_by_onnxruntime, _by_reference):
        try:
            with np.errstate(all="ignore"):
                results = run(model, feeds)
        except Exception:  # of any kind: the next one may
            continue
        if any(y is None or isinstance(y, list) for y in results):
            return []  # an optional or a sequence is no constant
        return list(map(np.asarray, results))
    return []


def _ends_the_process(node: ir.Node, feeds: dict[str, np.ndarray]) -> bool:
    """Whether onnxruntime may: dividing the lowest integer by -1 does."""
    divisor = node.inputs[1] if node.op_type == "Div" else None
    return divisor is not None and bool(np.any(feeds[str(divisor.name)] == -1))


def _alone(node: ir.Node, given: Mapping[str, ir.TensorProtocol]) -> onnx.ModelProto:
    """A model of the node, whose inputs are `given` by name."""
    proto = ir.to_proto(node)
    proto.output[:] = [f"output {place}" for place in range(len(node.outputs))]
    graph = onnx.helper.make_graph(
        [proto],
        "fold",
        [onnx.helper.make_tensor_value_info(name, t.dtype.value, sizes(t)) for name, t in given.items()],
        [onnx.ValueInfoProto(name=name) for name in proto.output],
    )
    opset = onnx.helper.make_opsetid("", node.version or OPSET)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)


def _by_onnxruntime(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> Sequence[Any]:
    return session(model.SerializeToString()).run(None, feeds)


def _by_reference(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> Sequence[Any]:
    return list(ReferenceEvaluator(model).run(None, feeds))
