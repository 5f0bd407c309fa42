"""Operators of old opsets as their schemas say, for which onnxruntime has no kernel or the evaluator reads them as
today's: in numpy (`old_forms`), or as the inputs and attributes with which opset 7 says the same (`AS_NEWER`)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx.reference.op_run import OpRun

from bridge.verification.metrics import Attributes

NEWER = 7  # the first opset that onnxruntime runs

# Their second operand may lie along axes of the first, from `axis` on, if `broadcast` is set.
LIMITED = {
    "Add": np.add, "And": np.logical_and, "Div": np.divide, "Equal": np.equal, "Greater": np.greater, "Less": np.less,
    "Mul": np.multiply, "Or": np.logical_or, "Pow": np.power, "Sub": np.subtract, "Xor": np.logical_xor,
}  # fmt: skip

# --- in numpy ------------------------------------------------------------------------------------------------


def old_forms(version: int) -> list[type[OpRun]]:
    """Implementations for the evaluator of a model of that opset."""
    limited = [_limited(name, function) for name, function in LIMITED.items() if version < NEWER]
    return [*limited, *(form for form, below in FORMS.items() if version < below)]


def _limited(name: str, function: np.ufunc) -> type[OpRun]:
    def _run(
        self: OpRun,
        a: np.ndarray,
        b: np.ndarray,
        axis: int | None = None,
        broadcast: int | None = None,
        consumed_inputs: int | None = None,
    ) -> tuple[np.ndarray, ...]:
        if broadcast and axis is not None and b.ndim:
            b = b.reshape(*b.shape, *[1] * (a.ndim - axis % a.ndim - b.ndim))
        if function is np.divide and a.dtype.kind in "iu":
            return ((a - np.fmod(a, b)) // b,)
        return (function(a, b).astype(_result(function, a)),)

    return type(name, (_Form,), {"_run": _run})


def _result(function: np.ufunc, a: np.ndarray) -> np.dtype:
    compares = (np.equal, np.greater, np.less, np.logical_and, np.logical_or, np.logical_xor)
    return np.dtype(bool) if function in compares else a.dtype


class _Form(OpRun):
    """An operator with the attributes of the opset it is of."""

    op_domain = ""

    def __init__(self, onnx_node: onnx.NodeProto, run_params: Attributes):
        schema = onnx.defs.get_schema(onnx_node.op_type, run_params["opsets"][""], "")
        super().__init__(onnx_node, run_params, schema)


class Cast(_Form):
    """Types had names."""

    def _run(self, x: np.ndarray, to: str = "") -> tuple[np.ndarray, ...]:
        return (x.astype(onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.DataType.Value(to.upper()))),)


class Clip(_Form):
    def _run(
        self,
        x: np.ndarray,
        min: float | None = None,
        max: float | None = None,
        consumed_inputs: int | None = None,
    ) -> tuple[np.ndarray, ...]:
        x = x if min is None else np.maximum(x, np.asarray(min, x.dtype))
        return (x if max is None else np.minimum(x, np.asarray(max, x.dtype)),)


class Dropout(_Form):
    def _run(
        self,
        x: np.ndarray,
        is_test: int | None = None,
        ratio: float | None = None,
        consumed_inputs: int | None = None,
        **kwargs: object,
    ) -> tuple[np.ndarray, ...]:
        return (x,)


class GlobalLpPool(_Form):
    """p was no whole number."""

    def _run(self, x: np.ndarray, p: float = 2.0) -> tuple[np.ndarray, ...]:
        total = np.sum(np.abs(x) ** p, tuple(range(2, x.ndim)), keepdims=True)
        return ((total ** (1 / p)).astype(x.dtype),)


class PRelu(_Form):
    """A slope for each channel, or one for all."""

    def _run(
        self, x: np.ndarray, slope: np.ndarray, consumed_inputs: int | None = None
    ) -> tuple[np.ndarray, ...]:
        if slope.ndim == 1 and x.ndim > 1:
            slope = slope.reshape(-1, *[1] * (x.ndim - 2))
        return (np.where(x < 0, slope * x, x).astype(x.dtype),)


class _Rows(_Form):
    """Of the matrix that has the axes before `axis` as its rows, and the others as its columns."""

    def _run(self, x: np.ndarray, axis: int = 1) -> tuple[np.ndarray, ...]:
        if not x.size:
            return (x,)
        rows = x.reshape(int(np.prod(x.shape[:axis], dtype=int)), -1)
        return (self.of_rows(rows).reshape(x.shape).astype(x.dtype),)

    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class Hardmax(_Rows):
    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        return np.eye(rows.shape[1])[rows.argmax(1)]


class LogSoftmax(_Rows):
    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        moved = rows - rows.max(1, keepdims=True)
        return moved - np.log(np.exp(moved).sum(1, keepdims=True))


class Softmax(_Rows):
    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        powers = np.exp(rows - rows.max(1, keepdims=True))
        return powers / powers.sum(1, keepdims=True)


class Tile(_Form):
    """Copies along one axis."""

    def _run(self, x: np.ndarray, tiles: np.ndarray, axis: np.ndarray) -> tuple[np.ndarray, ...]:
        along = int(np.squeeze(axis)) % x.ndim
        return (np.tile(x, [int(np.squeeze(tiles)) if place == along else 1 for place in range(x.ndim)]),)


FORMS: dict[type[OpRun], int] = {  # with the opset below which each holds
    Cast: 6,
    Clip: 6,
    Dropout: 7,
    GlobalLpPool: 2,
    Hardmax: 13,
    LogSoftmax: 13,
    PRelu: 7,
    Softmax: 13,
    Tile: 6,
}

# --- as opset 7 says it --------------------------------------------------------------------------------------

Given = tuple[list[np.ndarray | None], Attributes]  # inputs, attributes


def _without(*names: str) -> Callable[..., Given]:
    """The attributes that say nothing of values are gone."""

    def newer(*inputs: np.ndarray | None, **attributes: object) -> Given:
        left_out = {"consumed_inputs", *names}
        return list(inputs), {name: value for name, value in attributes.items() if name not in left_out}

    return newer


def _normalized(
    *inputs: np.ndarray | None, is_test: int = 0, consumed_inputs: int | None = None, **attributes: object
) -> Given:
    if not is_test:
        raise NotImplementedError("BatchNormalization in training mode")
    return list(inputs), attributes


def _recurrent(
    *inputs: np.ndarray | None, output_sequence: int = 0, direction: str = "forward", **attributes: object
) -> Given:
    """The first schema of GRU writes the default of its direction without an r."""
    return list(inputs), {**attributes, "direction": "forward" if direction == "foward" else direction}


def _concatenated(*inputs: np.ndarray | None, axis: int | None = None) -> Given:
    return list(inputs), {"axis": 1 if axis is None else axis}


def _split(
    x: np.ndarray, lengths: np.ndarray | None = None, split: np.ndarray | None = None, axis: int | None = None
) -> Given:
    return [x], {"axis": axis, "split": split if lengths is None else lengths.tolist()}


def _upsampled(x: np.ndarray, height_scale: float, width_scale: float, mode: str = "nearest") -> Given:
    scales = [1.0, 1.0, height_scale, width_scale]
    return [x], {"scales": scales, "mode": "linear" if mode == "bilinear" else mode}


AS_NEWER: dict[str, Callable[..., Given]] = {
    **dict.fromkeys(["AveragePool", "InstanceNormalization", "Mean", "Selu", "Sum"], _without()),
    **dict.fromkeys(["GRU", "LSTM", "RNN"], _recurrent),
    "BatchNormalization": _normalized,
    "Concat": _concatenated,
    "Gemm": _without("broadcast"),
    "Split": _split,
    "Upsample": _upsampled,
}
