"""What Keras's own recurrent layers cannot say.

`Cell` is a recurrent cell with what ONNX and torch allow and Keras's own cells do not: peepholes, clipping, coupled
gates, projections, any activation of ONNX. `Recurrent` runs such a cell over weights that arrive as tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
from keras import ops

from bridge.graph.recurrent import STATES, gate_order
from bridge.package import PACKAGE

Settings: TypeAlias = dict[str, Any]  # of a layer, as its config has them
Function = tuple[str, float, float]  # an activation of ONNX in lower case, its alpha and its beta

ACTIVATIONS: dict[str, tuple[Callable[..., keras.KerasTensor], tuple[float, ...]]] = {
    # name: (x, alpha, beta -> value, the defaults of those it takes), from ONNX's text on RNN, GRU and LSTM
    "sigmoid": (lambda x, *_: ops.sigmoid(x), ()),
    "tanh": (lambda x, *_: ops.tanh(x), ()),
    "relu": (lambda x, *_: ops.relu(x), ()),
    "softsign": (lambda x, *_: ops.softsign(x), ()),
    "softplus": (lambda x, *_: ops.softplus(x), ()),
    "affine": (lambda x, a, b: a * x + b, (1.0, 0.0)),
    "leakyrelu": (lambda x, a, b: ops.where(x >= 0, x, a * x), (0.01,)),
    "thresholdedrelu": (lambda x, a, b: ops.where(x >= a, x, ops.zeros_like(x)), (1.0,)),
    "scaledtanh": (lambda x, a, b: a * ops.tanh(b * x), (1.0, 1.0)),
    "hardsigmoid": (lambda x, a, b: ops.clip(a * x + b, 0, 1), (0.2, 0.5)),
    "elu": (lambda x, a, b: ops.where(x >= 0, x, a * ops.expm1(ops.minimum(x, 0))), (1.0,)),
}


def function(name: str, alphas: list[float], betas: list[float]) -> Function:
    """The activation `name` with the next alpha and beta, which ONNX lists for the functions that take them."""
    defaults = ACTIVATIONS[name][1]
    alpha = (alphas.pop(0) if alphas else defaults[0]) if len(defaults) > 0 else 0.0
    beta = (betas.pop(0) if betas else defaults[1]) if len(defaults) > 1 else 0.0
    return name, float(alpha), float(beta)


def _apply(function: Function, x: keras.KerasTensor, clip: float | None) -> keras.KerasTensor:
    name, alpha, beta = function
    return ACTIVATIONS[name][0](x if clip is None else ops.clip(x, -clip, clip), alpha, beta)


# One step each: input, states, variables and settings -> new states. Gates in Keras's order.


def _lstm_step(x, states, v, cell):
    h, c = states
    f, g, out = cell["functions"]
    gates = ops.matmul(x, v["kernel"]) + ops.matmul(h, v["recurrent_kernel"])
    zi, zf, zg, zo = ops.split(gates if v["bias"] is None else gates + v["bias"], 4, axis=-1)
    if v["peephole"] is not None:
        zi, zf = zi + v["peephole"][0] * c, zf + v["peephole"][2] * c
    i = _apply(f, zi, cell["clip"])
    forget = 1 - i if cell["input_forget"] else _apply(f, zf, cell["clip"])
    c = forget * c + i * _apply(g, zg, cell["clip"])
    if v["peephole"] is not None:
        zo = zo + v["peephole"][1] * c
    h = _apply(f, zo, cell["clip"]) * _apply(out, c, None)
    return [h if v["projection"] is None else ops.matmul(h, v["projection"]), c]


def _gru_step(x, states, v, cell):
    (h,) = states
    f, g = cell["functions"]
    bias = v["bias"]
    given, recurrent = ops.matmul(x, v["kernel"]), v["recurrent_kernel"]
    units = cell["units"]
    if cell["reset_after"]:
        inner = ops.matmul(h, recurrent)
        if bias is not None:
            given, inner = given + bias[0], inner + bias[1]
        (xz, xr, xn), (hz, hr, hn) = ops.split(given, 3, axis=-1), ops.split(inner, 3, axis=-1)
        z, r = _apply(f, xz + hz, cell["clip"]), _apply(f, xr + hr, cell["clip"])
        n = _apply(g, xn + r * hn, cell["clip"])
    else:
        xz, xr, xn = ops.split(given if bias is None else given + bias, 3, axis=-1)
        hz, hr = ops.split(ops.matmul(h, recurrent[:, : 2 * units]), 2, axis=-1)
        z, r = _apply(f, xz + hz, cell["clip"]), _apply(f, xr + hr, cell["clip"])
        n = _apply(g, xn + ops.matmul(r * h, recurrent[:, 2 * units :]), cell["clip"])
    return [(1 - z) * n + z * h]


def _rnn_step(x, states, v, cell):
    (h,) = states
    total = ops.matmul(x, v["kernel"]) + ops.matmul(h, v["recurrent_kernel"])
    return [_apply(cell["functions"][0], total if v["bias"] is None else total + v["bias"], cell["clip"])]


STEPS = {"LSTM": (_lstm_step, 4), "GRU": (_gru_step, 3), "RNN": (_rnn_step, 1)}


@keras.saving.register_keras_serializable(package=PACKAGE)
class Cell(keras.layers.Layer):
    """A recurrent cell for `keras.layers.RNN`. `x` is (batch, input); states are (batch, units), the hidden state
    (batch, projection) where there is one. `functions` are ONNX's activations with alpha and beta."""

    def __init__(
        self,
        mode: str,
        units: int,
        functions: Sequence[Function],
        use_bias: bool = True,
        clip: float | None = None,
        input_forget: bool = False,
        reset_after: bool = False,
        peephole: bool = False,
        projection: int | None = None,
        **kwargs: object,
    ):
        super().__init__(**kwargs)
        self.settings: Settings = {
            "mode": mode,
            "units": units,
            "functions": [list(item) for item in functions],
            "use_bias": use_bias,
            "clip": clip,
            "input_forget": input_forget,
            "reset_after": reset_after,
            "peephole": peephole,
            "projection": projection,
        }
        hidden = projection or units
        self.state_size = [hidden, units] if mode == "LSTM" else [hidden]
        self.output_size = hidden
        self.bias = None
        self.peephole = None
        self.projection = None

    def build(self, input_shape: Sequence[int | None]) -> None:
        settings, hidden = self.settings, self.output_size
        width = STEPS[settings["mode"]][1] * settings["units"]
        self.kernel = self.add_weight(shape=(input_shape[-1], width), name="kernel")
        self.recurrent_kernel = self.add_weight(
            shape=(hidden, width), initializer="orthogonal", name="recurrent_kernel"
        )
        if settings["use_bias"]:
            two = settings["mode"] == "GRU" and settings["reset_after"]
            self.bias = self.add_weight(
                shape=(2, width) if two else (width,), initializer="zeros", name="bias"
            )
        if settings["peephole"]:
            self.peephole = self.add_weight(
                shape=(3, settings["units"]), initializer="zeros", name="peephole"
            )
        if settings["projection"]:
            self.projection = self.add_weight(shape=(settings["units"], hidden), name="projection")

    def call(
        self, x: keras.KerasTensor, states: Sequence[keras.KerasTensor], training: bool = False
    ) -> tuple[keras.KerasTensor, list[keras.KerasTensor]]:
        names = ("kernel", "recurrent_kernel", "bias", "peephole", "projection")
        variables = {name: getattr(self, name) for name in names}
        new = STEPS[self.settings["mode"]][0](x, states, variables, self.settings)
        return new[0], new

    def get_initial_state(self, batch_size: int | None = None) -> list[keras.KerasTensor]:
        return [ops.zeros((batch_size, size), dtype=self.compute_dtype) for size in self.state_size]

    def get_config(self) -> Settings:
        return super().get_config() | self.settings


@keras.saving.register_keras_serializable(package=PACKAGE)
class Recurrent(keras.layers.Layer):
    """A recurrent layer whose weights are inputs: `[x, W, R, B, lens, P, *states]` as ONNX shapes them, those for
    which `has` is False left out. x is (batch, time, input); gives Y (batch, time, directions * units) and the
    final states in Keras's order."""

    def __init__(
        self,
        mode: str,
        units: int,
        direction: str,
        functions: Sequence[Sequence[Function]],
        has: Sequence[bool],
        clip: float | None = None,
        input_forget: bool = False,
        reset_after: bool = False,
        **kwargs: object,
    ):
        super().__init__(**kwargs)
        self.settings: Settings = {
            "mode": mode,
            "units": units,
            "direction": direction,
            "functions": [[list(item) for item in side] for side in functions],
            "has": list(has),
            "clip": clip,
            "input_forget": input_forget,
            "reset_after": reset_after,
        }

    def call(self, inputs: Sequence[Any]) -> list[keras.KerasTensor]:
        x, *rest = inputs
        w, r, b, lens, p = (rest.pop(0) if present else None for present in self.settings["has"])
        sides = len(self.settings["functions"])
        count = len(STATES[self.settings["mode"]])
        zero = ops.zeros_like(x[:, 0, :1]) * ops.zeros((1, self.settings["units"]), dtype=x.dtype)
        finals, sequences = [], []
        for side in range(sides):
            states = rest[side * count : (side + 1) * count] or [zero] * count
            backward = side == 1 or self.settings["direction"] == "reverse"
            y, final = self._side(x, self._variables(side, w, r, b, p), states, lens, side, backward)
            sequences.append(y)
            finals += final
        return [sequences[0] if sides == 1 else ops.concatenate(sequences, axis=-1), *finals]

    def _variables(
        self,
        side: int,
        w: Any,
        r: Any,
        b: keras.KerasTensor | None,
        p: keras.KerasTensor | None,
    ) -> Settings:
        order = gate_order(self.settings["mode"], "onnx", "keras")

        def gates(value: keras.KerasTensor) -> keras.KerasTensor:
            blocks = ops.split(value, len(order), axis=0)
            return ops.concatenate([blocks[i] for i in order], axis=0)

        bias = None
        if b is not None:
            wb, rb = (gates(row) for row in ops.split(b[side], 2, axis=0))
            bias = ops.stack([wb, rb]) if self.settings["reset_after"] else wb + rb
        return {
            "kernel": ops.transpose(gates(w[side])),
            "recurrent_kernel": ops.transpose(gates(r[side])),
            "bias": bias,
            "peephole": None if p is None else ops.reshape(p[side], (3, self.settings["units"])),
            "projection": None,
        }

    def _side(
        self,
        x: keras.KerasTensor,
        variables: Settings,
        states: list,
        lens: keras.KerasTensor | None,
        side: int,
        backward: bool,
    ) -> tuple[keras.KerasTensor, list]:
        step = STEPS[self.settings["mode"]][0]
        settings = self.settings | {"functions": self.settings["functions"][side]}
        clock = ops.cumsum(ops.ones_like(x[:, :, :1]), axis=1) - 1
        inside = clock >= 0 if lens is None else clock < ops.reshape(ops.cast(lens, clock.dtype), (-1, 1, 1))

        def move(carry: list, given: tuple) -> tuple[list, list[keras.KerasTensor]]:
            now, live = given
            new = step(now, carry, variables, settings)
            kept = [ops.where(live, after, before) for after, before in zip(new, carry, strict=True)]
            return kept, [ops.where(live, after, ops.zeros_like(after)) for after in new]

        given = (ops.swapaxes(x, 0, 1), ops.swapaxes(inside, 0, 1))
        final, (y, *_) = ops.scan(move, list(states), given, reverse=backward)
        return ops.swapaxes(y, 0, 1), list(final)

    def compute_output_spec(self, inputs: Sequence[keras.KerasTensor]) -> list[keras.KerasTensor]:
        x, units = inputs[0], self.settings["units"]
        sides = len(self.settings["functions"])
        count = len(STATES[self.settings["mode"]])
        y = keras.KerasTensor((x.shape[0], x.shape[1], sides * units), dtype=x.dtype)
        return [y, *(keras.KerasTensor((x.shape[0], units), dtype=x.dtype) for _ in range(sides * count))]

    def get_config(self) -> Settings:
        return super().get_config() | self.settings
