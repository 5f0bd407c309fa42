"""Which variable of a Keras layer is made from which parameter of a torch module: `RULES`, by the class of the layer.

Classes are known by name, so that layers of `keras` and of `tf_keras` (Keras 2, `CuDNNLSTM` and `CuDNNGRU` among them)
are filled alike. cuDNN keeps both biases, the input's then the recurrent one's, and torch's matrices as they lie in
memory, gate by gate.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.errors import WeightsError
from bridge.graph.recurrent import gate_order
from bridge.weights.weight import Weight

MODES = {  # of recurrent cells, and of layers without one
    "LSTMCell": "LSTM",
    "GRUCell": "GRU",
    "SimpleRNNCell": "RNN",
    "CuDNNLSTM": "LSTM",
    "CuDNNGRU": "GRU",
}


@dataclass(frozen=True)
class Part:
    """The parameters of one torch module, or of one layer of a torch RNN, by their names below it."""

    path: str
    weights: dict[str, Weight]
    module: Any = None

    def __str__(self) -> str:
        return self.path or "the torch part"

    def get(self, name: str) -> Weight | None:
        return self.weights.get(name)


def nearest(layer: Any, names: Iterable[str]) -> str | None:
    """The nearest of `layer`'s classes that has one of the names."""
    return next((cls.__name__ for cls in type(layer).__mro__ if cls.__name__ in names), None)


Holding = dict[str, Weight | None]  # variable path below the layer -> what fills it, if torch has it
Rule = Callable[[Any, Part], Holding]


def _renamed(**recipes: str) -> Rule:
    """A rule that says for each variable the parameter and, einops-like, how its axes are ordered."""

    def rule(layer: Any, part: Part) -> Holding:
        holding: Holding = {}
        for variable, recipe in recipes.items():
            name, _, pattern = recipe.partition(": ")
            weight = part.get(name)
            axes = pattern.partition("->")[0].replace("...", "").split()
            fits = weight is not None and pattern and len(weight.dims) >= len(axes)
            holding[variable] = weight.rearrange(pattern) if weight is not None and fits else weight
        return holding

    return rule


def _depthwise(layer: Any, part: Part) -> Holding:
    weight = part.get("weight")
    variable = "depthwise_kernel" if hasattr(layer, "depthwise_kernel") else "kernel"
    if weight is not None and len(weight.dims) > 2 and weight.dims[0] % layer.depth_multiplier == 0:
        weight = weight.reshape(-1, layer.depth_multiplier, *weight.dims[2:]).rearrange("i m ... -> ... i m")
    return {variable: weight, "bias": part.get("bias")}


def _einsum_dense(layer: Any, part: Part) -> Holding:
    """torch's rows are the kernel's axes that stay in the output, its columns those that are summed over."""
    given, kernel, made = re.split(",|->", layer.equation.replace(".", "").replace(" ", ""))
    order = [axis for axis in made if axis in kernel] + [
        axis for axis in given if axis in kernel and axis not in made
    ]
    sizes = dict(zip(kernel, layer.kernel.shape, strict=True))
    weight = _shaped(part.get("weight"), [sizes[axis] for axis in order])
    if weight is not None and len(weight.dims) == len(order):
        weight = weight.rearrange(f"{' '.join(order)} -> {' '.join(kernel)}")
    return {
        "kernel": weight,
        "bias": _shaped(part.get("bias"), layer.bias.shape if layer.bias is not None else ()),
    }


def _prelu(layer: Any, part: Part) -> Holding:
    return {"alpha": _shaped(part.get("weight"), layer.alpha.shape)}


def _shaped(weight: Weight | None, shape: Sequence[int]) -> Weight | None:
    fits = weight is not None and math.prod(shape) == math.prod(weight.dims)
    return weight.reshape(*shape) if weight is not None and fits else weight


def _recurrent(layer: Any, part: Part) -> Holding:
    if not nearest(layer, {"Bidirectional"}):
        return _one_direction(layer, "", part, "")
    forward = _one_direction(layer.forward_layer, "forward_layer.", part, "")
    return forward | _one_direction(layer.backward_layer, "backward_layer.", part, "_reverse")


def _one_direction(layer: Any, path: str, part: Part, suffix: str) -> Holding:
    celled = hasattr(getattr(layer, "cell", None), "kernel")
    holder, path = (layer.cell, f"{path}cell.") if celled else (layer, path)
    kind = nearest(holder, MODES)
    if kind is None:
        raise WeightsError(f"no rule fills {type(holder).__name__} {layer.name!r} from torch")
    order = gate_order(MODES[kind], "torch", "keras")
    w, r, b_w, b_r = (part.get(name + suffix) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    kernel, recurrent_kernel = (_gates(kind, weight, order) for weight in (w, r))
    bias = None
    if b_w is not None and b_r is not None:
        b_w, b_r = b_w.blocks(order), b_r.blocks(order)
        if kind.startswith("CuDNN"):
            bias = Weight.concat([b_w, b_r])
        elif kind == "GRUCell":
            bias = Weight.concat([b_w.reshape(1, -1), b_r.reshape(1, -1)])
        else:
            bias = b_w + b_r
    return {f"{path}kernel": kernel, f"{path}recurrent_kernel": recurrent_kernel, f"{path}bias": bias}


def _gates(kind: str, weight: Weight | None, order: Sequence[int]) -> Weight | None:
    if weight is None or weight.dims[0] % len(order):
        return weight
    if not kind.startswith("CuDNN"):
        return weight.blocks(order).rearrange("g i -> i g")
    units, size = weight.dims[0] // len(order), weight.dims[1]
    gates = [weight.narrow(0, i * units, (i + 1) * units).reshape(size, units) for i in order]
    return Weight.concat(gates, axis=1)


_convolution = _renamed(kernel="weight: o i ... -> ... i o", bias="bias")
_transposed = _renamed(kernel="weight: i o ... -> ... o i", bias="bias")
_normalization = _renamed(gamma="weight", beta="bias")

RULES: dict[str, Rule] = {
    "Dense": _renamed(kernel="weight: o i -> i o", bias="bias"),
    "EinsumDense": _einsum_dense,
    "Embedding": _renamed(embeddings="weight"),
    "Conv1D": _convolution,
    "Conv2D": _convolution,
    "Conv3D": _convolution,
    "Conv1DTranspose": _transposed,
    "Conv2DTranspose": _transposed,
    "Conv3DTranspose": _transposed,
    "DepthwiseConv1D": _depthwise,
    "DepthwiseConv2D": _depthwise,
    "BatchNormalization": _renamed(
        gamma="weight", beta="bias", moving_mean="running_mean", moving_variance="running_var"
    ),
    "LayerNormalization": _normalization,
    "GroupNormalization": _normalization,
    "RMSNormalization": _renamed(scale="weight"),
    "PReLU": _prelu,
    "Bidirectional": _recurrent,
    "RNN": _recurrent,
    **dict.fromkeys(MODES, _recurrent),
}


def rule_of(layer: Any) -> Rule | None:
    kind = nearest(layer, RULES)
    return RULES[kind] if kind else None
