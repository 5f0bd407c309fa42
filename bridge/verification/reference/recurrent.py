"""ONNX's LSTM, GRU and RNN in numpy, as their schemas define them. onnxruntime has no kernels of them for float64 and
none for `layout`; ONNX's evaluator passes over lengths and activations, and has no clip, peepholes of both directions
or coupled gates. What is proved says the same in `layers` and `ops/recurrent.py`: a reference borrows nothing of it.

https://github.com/onnx/onnx/blob/main/docs/Operators.md#LSTM, #GRU and #RNN
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bridge.errors import SourceError
from bridge.graph.decimals import number
from bridge.verification.metrics import Attributes

Function = Callable[..., np.ndarray]
Arrays = tuple[np.ndarray, ...]

# With the alpha and beta that they have where none is given
FUNCTIONS: dict[str, tuple[Function, tuple[float, ...]]] = {
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
class Cell:
    """One direction."""

    w: np.ndarray  # (gates * hidden, input)
    r: np.ndarray  # (gates * hidden, hidden)
    wb: np.ndarray  # (gates * hidden,), as rb
    rb: np.ndarray
    p: np.ndarray | None  # (3, hidden)
    functions: list[Function]
    attributes: Attributes

    def act(self, place: int, x: np.ndarray) -> np.ndarray:
        """What the function at `place` makes of a sum, which may be clipped."""
        clip = self.attributes.get("clip")
        return self.functions[place](np.clip(x, -clip, clip) if clip else x)

    def peeped(self, place: int, x: np.ndarray, c: np.ndarray) -> np.ndarray:
        """A sum with what its gate sees of the state, of which no weights are no zeros: it may be infinite."""
        return x if self.p is None else x + self.p[place] * c


def recurrent(kind: str, inputs: Sequence[object], attributes: Attributes) -> list[np.ndarray]:
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
    states = [np.zeros((directions, batch, hidden), x.dtype) if s is None else s for s in states]
    made = []
    for side, functions in enumerate(_functions(kind, directions, attributes)):
        wb, rb = np.split(b[side], 2)
        peepholes = None if p is None else p[side].reshape(3, hidden)
        cell = Cell(w[side], r[side], wb, rb, peepholes, functions, attributes)
        step = partial(STEPS[kind], cell)
        reverse = side == 1 or attributes.get("direction") == "reverse"
        made.append(_run(step, x, lengths, [s[side] for s in states], reverse))
    y, *last = (np.stack(arrays) for arrays in zip(*made, strict=True))
    if attributes.get("layout"):
        return [y.transpose(2, 1, 0, 3), *(s.swapaxes(0, 1) for s in last)]
    return [y.swapaxes(0, 1), *last]


def _functions(kind: str, directions: int, attributes: Attributes) -> list[list[Function]]:
    """Those of each direction, bound to the next alpha and beta, which are listed for the functions that take them."""
    names = attributes.get("activations") or DEFAULTS[kind] * directions
    left = [list(map(number, attributes.get(f"activation_{name}") or [])) for name in ("alpha", "beta")]
    functions: list[Function] = []
    for name in names:
        if name.lower() not in FUNCTIONS:
            raise SourceError(f"{kind} has no activation {name!r}")
        function, defaults = FUNCTIONS[name.lower()]
        numbers = [given.pop(0) if given else default for given, default in zip(left, defaults, strict=False)]
        functions.append(partial(_numbered, function, numbers))
    count = len(DEFAULTS[kind])
    return [functions[side * count : (side + 1) * count] for side in range(directions)]


def _numbered(function: Function, numbers: list[float], x: np.ndarray) -> np.ndarray:
    return function(x, *numbers)


def _run(
    step: Callable[..., Arrays], x: np.ndarray, lengths: np.ndarray, states: list[np.ndarray], reverse: bool
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


def _lstm(cell: Cell, x: np.ndarray, h: np.ndarray, c: np.ndarray) -> Arrays:
    i, o, forget, new = np.split(x @ cell.w.T + h @ cell.r.T + cell.wb + cell.rb, 4, axis=-1)
    i = cell.act(0, cell.peeped(0, i, c))
    forget = 1 - i if cell.attributes.get("input_forget") else cell.act(0, cell.peeped(2, forget, c))
    c = forget * c + i * cell.act(1, new)
    return cell.act(0, cell.peeped(1, o, c)) * cell.functions[2](c), c


def _gru(cell: Cell, x: np.ndarray, h: np.ndarray) -> Arrays:
    z, r, new = np.split(x @ cell.w.T + cell.wb, 3, axis=-1)
    (rz, rr, rn), (bz, br, bn) = np.split(cell.r, 3), np.split(cell.rb, 3)
    z, r = cell.act(0, z + h @ rz.T + bz), cell.act(0, r + h @ rr.T + br)
    inner = r * (h @ rn.T + bn) if cell.attributes.get("linear_before_reset") else (r * h) @ rn.T + bn
    return ((1 - z) * cell.act(1, new + inner) + z * h,)


def _rnn(cell: Cell, x: np.ndarray, h: np.ndarray) -> Arrays:
    return (cell.act(0, x @ cell.w.T + h @ cell.r.T + cell.wb + cell.rb),)


STEPS: dict[str, Callable[..., Arrays]] = {
    "GRU": _gru,
    "LSTM": _lstm,
    "RNN": _rnn,
}  # of x and the states: those after
