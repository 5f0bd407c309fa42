"""ONNX's LSTM, GRU and RNN in numpy, as their schemas define them. onnxruntime has no kernels of them for float64 and
none for `layout`; ONNX's evaluator passes over lengths and activations, and has no clip, peepholes of both directions
or coupled gates.

https://github.com/onnx/onnx/blob/main/docs/Operators.md#LSTM, #GRU and #RNN
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bridge.errors import SourceError
from bridge.written import number

Step = Callable[..., tuple[np.ndarray, ...]]  # of x and the states: the states after it
Function = Callable[[np.ndarray], np.ndarray]

FUNCTIONS: dict[
    str, tuple[Callable[..., np.ndarray], tuple[float, ...]]
] = {  # with the alpha and beta they begin with
    "affine": (lambda x, a, b: a * x + b, (1.0, 0.0)),
    "elu": (lambda x, a: np.where(x < 0, a * np.expm1(np.minimum(x, 0)), x), (1.0,)),
    "hardsigmoid": (lambda x, a, b: np.clip(a * x + b, 0, 1), (0.2, 0.5)),
    "leakyrelu": (lambda x, a: np.where(x < 0, a * x, x), (0.01,)),
    "relu": (lambda x: np.maximum(x, 0), ()),
    "scaledtanh": (lambda x, a, b: a * np.tanh(b * x), (1.0, 1.0)),
    "sigmoid": (lambda x: 0.5 * (1 + np.tanh(0.5 * x)), ()),
    "softplus": (lambda x: np.logaddexp(x, 0), ()),
    "softsign": (lambda x: x / (1 + np.abs(x)), ()),
    "tanh": (np.tanh, ()),
    "thresholdedrelu": (lambda x, a: np.where(x < a, 0, x), (1.0,)),
}
DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STATES = {"LSTM": 2, "GRU": 1, "RNN": 1}


@dataclass(frozen=True)
class Weights:
    """Of one direction."""

    w: np.ndarray  # (gates * hidden, input)
    r: np.ndarray  # (gates * hidden, hidden)
    wb: np.ndarray  # (gates * hidden,), as rb
    rb: np.ndarray
    p: np.ndarray  # (3, hidden)


def recurrent(kind: str, inputs: Sequence[Any], attributes: dict[str, Any]) -> list[np.ndarray]:
    """The outputs of an LSTM, GRU or RNN: Y and the last of each state. Raises `SourceError` for what ONNX has not."""
    given: list[Any] = [*inputs, *[None] * (8 - len(inputs))]
    x, w, r, b, lengths, *others = given
    states, p = others[: STATES[kind]], others[2]
    if attributes.get("layout"):
        x, states = x.swapaxes(0, 1), [None if s is None else s.swapaxes(0, 1) for s in states]
    (time, batch, _), (directions, _, hidden) = x.shape, r.shape
    if DIRECTIONS.get(attributes.get("direction", "forward")) != directions:
        raise SourceError(f"{kind} has weights of {directions} directions, and is {attributes['direction']}")
    lengths = np.full(batch, time) if lengths is None else lengths
    b = np.zeros((directions, 2 * GATES[kind] * hidden), x.dtype) if b is None else b
    p = np.zeros((directions, 3 * hidden), x.dtype) if p is None else p
    states = [np.zeros((directions, batch, hidden), x.dtype) if s is None else s for s in states]
    made = []
    for side, functions in enumerate(_functions(kind, directions, attributes)):
        wb, rb = np.split(b[side], 2)
        weights = Weights(w[side], r[side], wb, rb, p[side].reshape(3, hidden))
        step = partial(STEPS[kind], weights, functions, attributes)
        reverse = side == 1 or attributes.get("direction") == "reverse"
        made.append(_run(step, x, lengths, [s[side] for s in states], reverse))
    y, *last = (np.stack(arrays) for arrays in zip(*made, strict=True))
    if attributes.get("layout"):
        return [y.transpose(2, 1, 0, 3), *(s.swapaxes(0, 1) for s in last)]
    return [y.swapaxes(0, 1), *last]


def _functions(kind: str, directions: int, attributes: dict[str, Any]) -> list[list[Function]]:
    """Those of each direction, bound to the next alpha and beta, which are listed for the functions that take them."""
    names = attributes.get("activations") or DEFAULTS[kind] * directions
    left = [list(map(number, attributes.get(f"activation_{name}") or [])) for name in ("alpha", "beta")]
    functions = []
    for name in names:
        if name.lower() not in FUNCTIONS:
            raise SourceError(f"{kind} has no activation {name!r}")
        function, defaults = FUNCTIONS[name.lower()]
        numbers = [given.pop(0) if given else default for given, default in zip(left, defaults, strict=False)]
        functions.append(_bound(function, numbers))
    count = len(DEFAULTS[kind])
    return [functions[side * count : (side + 1) * count] for side in range(directions)]


def _bound(function: Callable[..., np.ndarray], numbers: list[float]) -> Function:
    return lambda x: function(x, *numbers)


def _run(
    step: Step, x: np.ndarray, lengths: np.ndarray, states: list[np.ndarray], reverse: bool
) -> list[np.ndarray]:
    """Y of (time, batch, hidden), zero behind the end of each sequence, and the states there, which onnxruntime has as
    zero where there is no sequence."""
    time, batch, _ = x.shape
    y, rows = np.zeros((time, *states[0].shape), x.dtype), np.arange(batch)
    for count in range(time):
        inside = count < lengths
        place = np.where(inside, lengths - 1 - count, 0) if reverse else np.full(batch, count)
        after = step(x[place, rows], *states)
        states = [np.where(inside[:, None], new, old) for new, old in zip(after, states, strict=True)]
        y[place[inside], rows[inside]] = states[0][inside]
    return [y, *(np.where(lengths[:, None] > 0, state, 0) for state in states)]


def _clipped(x: np.ndarray, attributes: dict[str, Any]) -> np.ndarray:
    clip = attributes.get("clip")
    return np.clip(x, -clip, clip) if clip else x


def _lstm(
    v: Weights,
    functions: list[Function],
    attributes: dict[str, Any],
    x: np.ndarray,
    h: np.ndarray,
    c: np.ndarray,
) -> tuple[np.ndarray, ...]:
    f, g, out = functions
    i, o, forget, new = np.split(x @ v.w.T + h @ v.r.T + v.wb + v.rb, 4, axis=-1)
    i = f(_clipped(i + v.p[0] * c, attributes))
    forget = 1 - i if attributes.get("input_forget") else f(_clipped(forget + v.p[2] * c, attributes))
    c = forget * c + i * g(_clipped(new, attributes))
    return f(_clipped(o + v.p[1] * c, attributes)) * out(c), c


def _gru(
    v: Weights, functions: list[Function], attributes: dict[str, Any], x: np.ndarray, h: np.ndarray
) -> tuple[np.ndarray, ...]:
    (f, g), hidden = functions, h.shape[-1]
    given, (rz, rr, rn), bn = x @ v.w.T + v.wb, np.split(v.r, 3), v.rb[2 * hidden :]
    z = f(_clipped(given[:, :hidden] + h @ rz.T + v.rb[:hidden], attributes))
    r = f(_clipped(given[:, hidden : 2 * hidden] + h @ rr.T + v.rb[hidden : 2 * hidden], attributes))
    inner = r * (h @ rn.T + bn) if attributes.get("linear_before_reset") else (r * h) @ rn.T + bn
    return (((1 - z) * g(_clipped(given[:, 2 * hidden :] + inner, attributes)) + z * h),)


def _rnn(
    v: Weights, functions: list[Function], attributes: dict[str, Any], x: np.ndarray, h: np.ndarray
) -> tuple[np.ndarray, ...]:
    return (functions[0](_clipped(x @ v.w.T + h @ v.r.T + v.wb + v.rb, attributes)),)


STEPS: dict[str, Step] = {"GRU": _gru, "LSTM": _lstm, "RNN": _rnn}
