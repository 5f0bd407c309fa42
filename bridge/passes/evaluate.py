"""What a node gives for known inputs: by onnxruntime, or by ONNX's reference evaluator where that has no kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from bridge.graph.functions import OPSET
from bridge.graph.rewriting import sizes

IR_VERSION = 10  # which every onnxruntime of ours reads


def evaluate(node: ir.Node, inputs: Sequence[ir.TensorProtocol | None]) -> list[np.ndarray]:
    """The outputs of `node` as arrays, those too that nobody reads; none where neither can work them out, so that the
    node stays in the graph, where the run will tell."""
    model = _alone(node, inputs)
    feeds = {str(v.name): t.numpy() for v, t in zip(node.inputs, inputs, strict=True) if v and t is not None}
    for run in (_by_reference,) if _ends_the_process(node, feeds) else (_by_onnxruntime, _by_reference):
        try:
            with np.errstate(all="ignore"):
                results = run(model, feeds)
        except Exception:  # of any kind: the next one may
            continue
        # An optional or a sequence is no constant
        return (
            [] if any(y is None or isinstance(y, list) for y in results) else list(map(np.asarray, results))
        )
    return []


def _ends_the_process(node: ir.Node, feeds: dict[str, np.ndarray]) -> bool:
    """Whether onnxruntime may: dividing the lowest integer by -1 does."""
    divisor = node.inputs[1] if node.op_type == "Div" else None
    return divisor is not None and bool(np.any(feeds[str(divisor.name)] == -1))


def _alone(node: ir.Node, inputs: Sequence[ir.TensorProtocol | None]) -> onnx.ModelProto:
    """A model of the node, whose inputs are the node's."""
    proto = ir.to_proto(node)
    proto.output[:] = [f"output {place}" for place in range(len(node.outputs))]
    given = {
        str(v.name): t for v, t in zip(node.inputs, inputs, strict=True) if v is not None and t is not None
    }
    graph = onnx.helper.make_graph(
        [proto],
        "fold",
        [onnx.helper.make_tensor_value_info(name, t.dtype.value, sizes(t)) for name, t in given.items()],
        [onnx.ValueInfoProto(name=name) for name in proto.output],
    )
    opset = onnx.helper.make_opsetid("", node.version or OPSET)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)


def _by_onnxruntime(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> Sequence[Any]:
    return _session()(model.SerializeToString()).run(None, feeds)


@cache
def _session() -> Callable[[bytes], Any]:
    """onnxruntime's session of a serialised model: on one thread, nothing optimised."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_cpu_mem_arena = False
    return lambda model: onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _by_reference(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> Sequence[Any]:
    return list(ReferenceEvaluator(model).run(None, feeds))
