"""Steps of training as operators: what `ai.onnx.preview.training` makes of parameters, gradients and what it keeps
of earlier steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from bridge.frontend.onnx.lowered import Writer, lowers

TRAINING = "ai.onnx.preview.training"


def _rows(values: Sequence[ir.Value], kinds: int) -> list[tuple[ir.Value, ...]]:
    """Of each parameter what is given of it; all of a kind stand together."""
    count = len(values) // kinds
    return list(zip(*(values[kind * count : (kind + 1) * count] for kind in range(kinds)), strict=True))


def _by_kind(rows: Sequence[tuple[ir.Value, ...]]) -> tuple[ir.Value, ...]:
    return tuple(value for kind in zip(*rows, strict=True) for value in kind)


def _scaled(write: Writer, x: ir.Value, number: float) -> ir.Value:
    return write("Mul", x, write.number(number, x))


def _regular(write: Writer, x: ir.Value, gradient: ir.Value, norm: float) -> ir.Value:
    """The gradient, that of the norm of x with it."""
    return write("Add", _scaled(write, x, norm), gradient) if norm else gradient


def _started(write: Writer, step: ir.Value, then: ir.Value, first: ir.Value) -> ir.Value:
    """What holds behind the first step, and what in it."""
    return write("Where", write("Greater", step, write.constant(0)), then, first)


@lowers("Adagrad", domain=TRAINING)
def adagrad(write: Writer, rate, step, *values, decay_factor=0.0, epsilon=1e-6, norm_coefficient=0.0):
    slower = write("Mul", write("CastLike", step, rate), write.number(decay_factor, rate))
    rate, rows = write("Div", rate, write("Add", slower, write.number(1, rate))), []
    for x, given, squares in _rows(values, 3):
        gradient = _regular(write, x, given, norm_coefficient)
        squares = write("Add", squares, write("Mul", gradient, gradient))
        size = write("Add", write("Sqrt", squares), write.number(epsilon, x))
        rows.append((write("Sub", x, write("Div", write("Mul", rate, gradient), size)), squares))
    return _by_kind(rows)


@lowers("Adam", domain=TRAINING)
def adam(
    write: Writer, rate, step, *values,
    alpha=0.9, beta=0.999, epsilon=1e-6, norm_coefficient=0.0, norm_coefficient_post=0.0,
):  # fmt: skip
    one, count = write.number(1, rate), write("CastLike", step, rate)
    left, squared = (
        write("Sub", one, write("Pow", write.number(number, rate), count)) for number in (alpha, beta)
    )
    rate = _started(write, step, write("Mul", rate, write("Div", write("Sqrt", squared), left)), rate)
    rows = []
    for x, given, mean, squares in _rows(values, 4):
        gradient = _regular(write, x, given, norm_coefficient)
        mean = write("Add", _scaled(write, mean, alpha), _scaled(write, gradient, 1 - alpha))
        square = _scaled(write, write("Mul", gradient, gradient), 1 - beta)
        squares = write("Add", _scaled(write, squares, beta), square)
        size = write("Add", write("Sqrt", squares), write.number(epsilon, x))
        x = write("Sub", x, write("Div", write("Mul", rate, mean), size))
        rows.append((_scaled(write, x, 1 - norm_coefficient_post), mean, squares))
    return _by_kind(rows)


@lowers("Momentum", domain=TRAINING)
def momentum(write: Writer, rate, step, *values, alpha, beta, mode, norm_coefficient):
    share, rows = _started(write, step, write.constant(beta, np.float32), write.constant(1, np.float32)), []
    for x, given, speed in _rows(values, 3):
        gradient = _regular(write, x, given, norm_coefficient)
        speed = write(
            "Add", _scaled(write, speed, alpha), write("Mul", gradient, write("CastLike", share, gradient))
        )
        moved = write("Add", gradient, _scaled(write, speed, alpha)) if mode == "nesterov" else speed
        rows.append((write("Sub", x, write("Mul", rate, moved)), speed))
    return _by_kind(rows)
