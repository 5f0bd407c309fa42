"""Operators of opsets 1 to 6, which onnxruntime does not run, for ONNX's reference evaluator, which does not know them
or reads them as today's: what their old schemas say, in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx.reference.op_run import OpRun

NEWER = 7  # the first opset that onnxruntime runs

# Their second operand may lie along axes of the first, from `axis` on, if `broadcast` is set.
LIMITED = {
    "Add": np.add, "And": np.logical_and, "Div": np.divide, "Equal": np.equal, "Greater": np.greater, "Less": np.less,
    "Mul": np.multiply, "Or": np.logical_or, "Pow": np.power, "Sub": np.subtract, "Xor": np.logical_xor,
}  # fmt: skip


def old_forms(model: onnx.ModelProto) -> list[type[OpRun]]:
    """The implementations that a model of its opset needs; none from opset 7 on."""
    version = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), NEWER)
    if version >= NEWER:
        return []
    return [
        *(_limited(name, function) for name, function in LIMITED.items()),
        Dropout,
        *([Clip] if version < 6 else []),
    ]


def _limited(name: str, function: Any) -> type[OpRun]:
    def _run(
        self: OpRun, a: Any, b: Any, axis: Any = None, broadcast: Any = None, consumed_inputs: Any = None
    ) -> Any:
        if broadcast and axis is not None and b.ndim:
            b = b.reshape(*b.shape, *[1] * (a.ndim - axis % a.ndim - b.ndim))
        whole = function is np.divide and a.dtype.kind in "iu"
        return ((np.floor_divide if whole else function)(a, b).astype(_result(function, a)),)

    return type(name, (OpRun,), {"_run": _run, "op_domain": ""})


def _result(function: Any, a: np.ndarray) -> np.dtype:
    compares = (np.equal, np.greater, np.less, np.logical_and, np.logical_or, np.logical_xor)
    return np.dtype(bool) if function in compares else a.dtype


class Dropout(OpRun):
    op_domain = ""

    def _run(
        self, x: Any, is_test: Any = None, ratio: Any = None, consumed_inputs: Any = None, **kwargs: Any
    ) -> Any:
        return (x,)


class Clip(OpRun):
    op_domain = ""

    def _run(self, x: Any, min: Any = None, max: Any = None, consumed_inputs: Any = None) -> Any:
        x = x if min is None else np.maximum(x, np.asarray(min, x.dtype))
        return (x if max is None else np.minimum(x, np.asarray(max, x.dtype)),)
