"""Which variable of a Keras layer is made from which parameter of a torch part.

cuDNN's layers of Keras 2 keep both biases, the input's then the recurrent one's, and torch's matrices as they lie in
memory, gate by gate.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import partial

from bridge.graph.recurrent import gate_order
from bridge.handwritten.keras_slots import Layer
from bridge.handwritten.torch_parts import Part
from bridge.weights.weight import Weight

Holding = dict[str, Weight | None]  # variable path below the layer -> what fills it, if torch has it
Rule = Callable[[Layer, Part], Holding]


def renamed(**recipes: str) -> Rule:
    """A rule that says for each variable the parameter and, einops-like, how its axes are ordered."""

    def rule(layer: Layer, part: Part) -> Holding:
        holding: Holding = {}
        for variable, recipe in recipes.items():
            name, _, pattern = recipe.partition(": ")
            weight = part.get(name)
            axes = pattern.partition("->")[0].replace("...", "").split()
            fits = weight is not None and pattern and len(weight.dims) >= len(axes)
            holding[variable] = weight.rearrange(pattern) if weight is not None and fits else weight
        return holding

    return rule


def depthwise(layer: Layer, part: Part) -> Holding:
    weight = part.get("weight")
    variable = "depthwise_kernel" if hasattr(layer, "depthwise_kernel") else "kernel"
    if weight is not None and len(weight.dims) > 2 and weight.dims[0] % layer.depth_multiplier == 0:
        weight = weight.reshape(-1, layer.depth_multiplier, *weight.dims[2:]).rearrange("i m ... -> ... i m")
    return {variable: weight, "bias": part.get("bias")}


def separable_depthwise(layer: Layer, part: Part) -> Holding:
    """The layer's bias is the pointwise convolution's; there is none in between."""
    return {
        "depthwise_kernel": depthwise(layer, part)["depthwise_kernel"],
        "depthwise_bias": part.get("bias"),
    }


def letters(equation: str) -> list[str]:
    """The axes of the input, the kernel and the output of an `EinsumDense`."""
    return re.split(",|->", equation.replace(".", "").replace(" ", ""))


def einsum_dense(layer: Layer, part: Part) -> Holding:
    """torch's rows are the kernel's axes that stay in the output, its columns those that are summed over."""
    given, kernel, made = letters(layer.equation)
    order = [axis for axis in made if axis in kernel] + [
        axis for axis in given if axis in kernel and axis not in made
    ]
    sizes = dict(zip(kernel, layer.kernel.shape, strict=True))
    weight = part.get("weight")
    if len(order) == len(kernel):
        weight = _shaped(weight, [sizes[axis] for axis in order])
    if weight is not None and len(weight.dims) == len(order) == len(kernel):
        weight = weight.rearrange(f"{' '.join(order)} -> {' '.join(kernel)}")
    bias = _shaped(part.get("bias"), layer.bias.shape if layer.bias is not None else ())
    return {"kernel": weight, "bias": bias}


def prelu(layer: Layer, part: Part) -> Holding:
    return {"alpha": _shaped(part.get("weight"), layer.alpha.shape)}


def _shaped(weight: Weight | None, shape: Sequence[int]) -> Weight | None:
    fits = weight is not None and math.prod(shape) == math.prod(weight.dims)
    return weight.reshape(*shape) if weight is not None and fits else weight


def recurrent(mode: str, biases: str = "summed", cudnn: bool = False) -> Rule:
    """A rule for a cell: torch's two `biases` are "summed" in Keras's one, its "rows", or one after the other
    ("in a row")."""

    def rule(layer: Layer, part: Part) -> Holding:
        order = gate_order(mode, "torch", "keras")
        gates = partial(_cudnn_gates if cudnn else _gates, order=order)
        kernel, recurrent_kernel = (gates(part.get(name)) for name in ("weight_ih", "weight_hh"))
        bias = None
        b_w, b_r = part.get("bias_ih"), part.get("bias_hh")
        if b_w is not None and b_r is not None:
            b_w, b_r = b_w.blocks(order), b_r.blocks(order)
            if biases == "summed":
                bias = b_w + b_r
            elif biases == "rows":
                bias = Weight.concat([b_w.reshape(1, -1), b_r.reshape(1, -1)])
            else:
                bias = Weight.concat([b_w, b_r])
        return {"kernel": kernel, "recurrent_kernel": recurrent_kernel, "bias": bias}

    return rule


def _gates(weight: Weight | None, order: Sequence[int]) -> Weight | None:
    if weight is None or weight.dims[0] % len(order):
        return weight
    return weight.blocks(order).rearrange("g i -> i g")


def _cudnn_gates(weight: Weight | None, order: Sequence[int]) -> Weight | None:
    if weight is None or weight.dims[0] % len(order):
        return weight
    units, size = weight.dims[0] // len(order), weight.dims[1]
    gates = [weight.narrow(0, i * units, (i + 1) * units).reshape(size, units) for i in order]
    return Weight.concat(gates, axis=1)


convolution = renamed(kernel="weight: o i ... -> ... i o", bias="bias")
transposed = renamed(kernel="weight: i o ... -> ... o i", bias="bias")
pointwise = renamed(pointwise_kernel="weight: o i ... -> ... i o", bias="bias")
scale_and_shift = renamed(gamma="weight", beta="bias")
