"""A recurrent node as ONNX states it, and what of it Keras is told for each direction: arguments and variables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np

from bridge import layers
from bridge.graph.decimals import decimal
from bridge.graph.recurrent import gate_order
from bridge.keras_compat import Config
from bridge.ops.contract import Refused
from bridge.weights.weight import Weight

DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
NATIVE = {
    "LSTM": (keras.layers.LSTM, keras.layers.LSTMCell),
    "GRU": (keras.layers.GRU, keras.layers.GRUCell),
    "RNN": (keras.layers.SimpleRNN, keras.layers.SimpleRNNCell),
}
KERAS_ACTIVATIONS = {  # ONNX's activation, its alpha and beta -> Keras's name of the same function
    ("sigmoid", 0.0, 0.0): "sigmoid",
    ("tanh", 0.0, 0.0): "tanh",
    ("relu", 0.0, 0.0): "relu",
    ("softsign", 0.0, 0.0): "softsign",
    ("softplus", 0.0, 0.0): "softplus",
    ("hardsigmoid", decimal(np.float32(1 / 6)), 0.5): "hard_sigmoid",  # that of old Keras has an alpha of 0.2
    ("leakyrelu", 0.2, 0.0): "leaky_relu",
    ("elu", 1.0, 0.0): "elu",
    ("affine", 1.0, 0.0): "linear",
}


@dataclass(frozen=True)
class Node:
    """A recurrent node's attributes, in ONNX's terms."""

    mode: str
    hidden_size: int
    direction: str = "forward"
    activations: Sequence[str] | None = None
    activation_alpha: Sequence[float] | None = None
    activation_beta: Sequence[float] | None = None
    clip: float | None = None
    input_forget: int = 0
    linear_before_reset: int = 0
    stateful: int = 0

    @property
    def directions(self) -> int:
        return 2 if self.direction == "bidirectional" else 1

    def functions(self, side: int) -> list[layers.Function]:
        """The activation functions of one direction, with their alpha and beta."""
        names = [name.lower() for name in self.activations or DEFAULTS[self.mode] * self.directions]
        if unknown := [name for name in names if name not in layers.ACTIVATIONS]:
            raise Refused(f"ONNX has no activation {unknown[0]!r}")
        alphas, betas = (list(map(decimal, v or [])) for v in (self.activation_alpha, self.activation_beta))
        functions = [layers.function(name, alphas, betas) for name in names]
        count = len(DEFAULTS[self.mode])
        return functions[side * count : (side + 1) * count]

    def native(self, side: int) -> Config | None:
        """Arguments of Keras's own layer for one direction, or None where it cannot say this node."""
        names = [KERAS_ACTIVATIONS.get(function) for function in self.functions(side)]
        if self.clip or self.input_forget or None in names or len(set(names[1:])) > 1:
            return None
        config: Config = {"units": self.hidden_size, "activation": names[-1]}
        if self.mode != "RNN":
            config["recurrent_activation"] = names[0]
        if self.mode == "GRU":
            config["reset_after"] = bool(self.linear_before_reset)
        return config

    def custom(self, side: int, peephole: bool, projection: int | None, bias: bool) -> Config:
        """Arguments of the registered cell for one direction."""
        return {
            "mode": self.mode,
            "units": self.hidden_size,
            "functions": self.functions(side),
            "use_bias": bias,
            "clip": self.clip or None,
            "input_forget": bool(self.input_forget),
            "reset_after": bool(self.linear_before_reset),
            "peephole": peephole,
            "projection": projection,
        }


def side_weights(
    node: Node, side: int, w: Weight, r: Weight, b: Weight | None, p: Weight | None, projection: Weight | None = None
) -> dict[str, Weight]:  # fmt: skip
    """The variables of one direction's cell."""
    order = gate_order(node.mode, "onnx", "keras")
    weights = {
        "kernel": w.select(0, side).blocks(order).rearrange("g i -> i g"),
        "recurrent_kernel": r.select(0, side).blocks(order).rearrange("g h -> h g"),
    }
    if b is not None:
        both, width = b.select(0, side), len(order) * node.hidden_size
        wb, rb = (both.narrow(0, row * width, (row + 1) * width).blocks(order) for row in (0, 1))
        two = node.mode == "GRU" and node.linear_before_reset
        weights["bias"] = Weight.concat([wb.reshape(1, -1), rb.reshape(1, -1)]) if two else wb + rb
    if p is not None:
        weights["peephole"] = p.select(0, side).reshape(3, node.hidden_size)
    if projection is not None:
        weights["projection"] = projection.select(0, side).rearrange("p h -> h p")
    return weights


def by_path(sides: list[dict[str, Weight]]) -> dict[str, Weight]:
    """The variables of all directions by their paths below the layer."""
    cells = ("forward_layer.cell", "backward_layer.cell") if len(sides) == 2 else ("cell",)
    return {
        f"{cell}.{path}": w for cell, weights in zip(cells, sides, strict=True) for path, w in weights.items()
    }
