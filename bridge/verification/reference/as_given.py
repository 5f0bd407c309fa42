"""What a file says, as it is given: onnxruntime on the whole of it, or on node after node where it refuses that."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx_ir.passes.common import InlinePass, RemoveUnusedFunctionsPass, RemoveUnusedNodesPass

from bridge.errors import SourceError, calling, short_message
from bridge.frontend.source import as_ir
from bridge.graph.functions import DOMAIN
from bridge.graph.rewriting import is_onnx
from bridge.graph.shapes import typed_by_onnx
from bridge.verification.metrics import Arrays
from bridge.verification.reference.node_kernels import node_kernels, with_outputs_named
from bridge.verification.runners import OnnxRuntime, onnxruntime_at, with_outputs


class Evaluator:
    """ONNX's reference evaluator."""

    name = "ONNX's reference evaluator"

    def __init__(self, model: onnx.ModelProto, operators: list[type[OpRun]] | None = None):
        try:
            self._evaluator = ReferenceEvaluator(with_outputs_named(model), new_ops=operators)
        except Exception as error:
            raise SourceError(f"{self.name} refuses the model: {short_message(error)}") from error
        known = {tensor.name for tensor in self._evaluator.proto_.graph.initializer}
        self._inputs = [name for name in self._evaluator.input_names if name not in known]

    def __call__(self, inputs: Arrays) -> Arrays:
        feeds = dict(zip(self._inputs, inputs, strict=True))
        with calling(), np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of numpy, where an array is empty
            results: Any = self._evaluator.run(None, feeds)
        made: list[Any] = [
            x if isinstance(x, list) else np.asarray(x) for x in results
        ]  # a list is a sequence
        return made


class NodeByNode(Evaluator):
    """For files that onnxruntime refuses as a whole: each of ONNX's operators by its kernel where it has one, else as
    the schema of an old opset says, else as ONNX's reference evaluator has it."""

    name = "onnxruntime node by node, and ONNX's reference evaluator for what it lacks"

    def __init__(self, model: onnx.ModelProto):
        super().__init__(model, node_kernels(model))


Runner = OnnxRuntime | Evaluator


def as_given(model: ir.Model | onnx.ModelProto | str, examples: Arrays | None = None) -> tuple[Runner, str]:
    """What runs `model` just as it is, without the nodes that no output needs, and why it is not onnxruntime, if it is
    not: that may refuse it at `examples` too, inputs that are known to be legal. Raises `SourceError` if nothing runs
    it."""
    whole = as_ir(model)
    needed = whole.clone()
    RemoveUnusedNodesPass()(needed)
    if len(needed.graph) < len(whole.graph) or any(is_onnx(node, "Attention") for node in needed.graph):
        model = needed  # a graph, of which `OnnxRuntime` knows how to run an Attention
    try:
        serialised = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
        return onnxruntime_at(serialised, examples), ""
    except SourceError as error:
        reason = str(error)
    if isinstance(model, str):  # onnxruntime reads no shapes out of external data
        with contextlib.suppress(SourceError):
            return onnxruntime_at(ir.external_data.load_to_model(whole), examples), ""
    proto = onnx.load(model) if isinstance(model, str) else model
    proto = without_our_functions(proto) if isinstance(proto, ir.Model) else proto
    try:
        _require_valid(proto)
        return NodeByNode(proto), reason
    except SourceError as error:
        raise SourceError(f"{reason}; {error}") from error


def in_float64(model: ir.Model) -> Runner:
    """A graph in float64, node by node: its attributes have 32 bits, and are what was meant by them."""
    return NodeByNode(without_our_functions(model))


def values_of(model: ir.Model, names: Sequence[str | None], inputs: Arrays, dtype: str) -> Arrays:
    """What the values called `names` hold while a graph runs on `inputs`, in float64 where that is the `dtype`."""
    if not names:
        return []
    shown = with_outputs(model, names)
    return (in_float64(shown) if dtype == "float64" else as_given(shown)[0])(inputs)


def _require_valid(model: onnx.ModelProto) -> None:
    """Raise `SourceError` where types and shapes do not fit, for which the evaluator does not ask."""
    try:
        typed_by_onnx(model, check_type=True, strict_mode=True)
    except Exception as error:
        raise SourceError(f"{Evaluator.name} refuses the model: {short_message(error)}") from error


def without_our_functions(model: ir.Model) -> onnx.ModelProto:
    """With the operators of ours written out, whose bodies the evaluator reads whether they are called or not, and not
    without every attribute that a call may leave away."""
    plain = model.clone()
    InlinePass(criteria=lambda function: function.domain == DOMAIN)(plain)
    RemoveUnusedFunctionsPass()(plain)
    return ir.to_proto(plain)
