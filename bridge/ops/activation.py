"""Activations: Keras's layers where they say the function, or else its formula."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from keras import layers, ops

from bridge.graph.decimals import SELU
from bridge.graph.functions import DOMAIN
from bridge.ops.contract import Site, Tensor
from bridge.ops.layouts import ANY
from bridge.ops.registry import op
from bridge.weights.weight import Weight

SOFTMAX_AXES = 5  # that TensorFlow's kernel for CPUs takes at most
ACTIVATIONS = {
    "HardSwish": "hard_swish",
    "Mish": "mish",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Tanh": "tanh",
}


def _activation(name: str) -> Callable[..., Tensor]:
    return lambda site, x: site.layer(layers.Activation, activation=name)(x)


for _name, _activated in ACTIVATIONS.items():
    op(_name, layout=ANY, makes=(layers.Activation,))(_activation(_activated))


@op("Relu", layout=ANY, makes=(layers.ReLU,))
def relu(site: Site, x):
    return site.layer(layers.ReLU)(x) if "float" in site.dtype else ops.maximum(x, np.zeros((), site.dtype))


@op("LeakyRelu", layout=ANY, makes=(layers.LeakyReLU,))
def leaky_relu(site: Site, x, *, alpha=0.01):
    if alpha < 0 or site.twin("LeakyReLU"):  # Keras's takes no slope below 0
        return ops.where(ops.less(x, 0), ops.multiply(x, alpha), x)
    return site.layer(layers.LeakyReLU, negative_slope=alpha)(x)


@op("PRelu", layout=ANY, makes=(layers.PReLU,))
def prelu(site: Site, x, slope: Weight | Tensor):
    """A PReLU where each slope belongs to one index of some axes, as torch's belong to channels."""
    if not isinstance(slope, Weight):
        return ops.where(ops.less(x, 0), ops.multiply(x, slope), x)
    dims = (1,) * (len(x.shape) - len(slope.dims)) + slope.dims
    slope = slope.reshape(*dims).transpose(*site.perm())
    batch, *rest = slope.dims or (0,)
    if batch != 1 or any(dim not in (1, size) for dim, size in zip(rest, x.shape[1:], strict=True)):
        return ops.where(ops.less(x, 0), ops.multiply(x, site.tensor(slope)), x)
    shared = [axis for axis, dim in enumerate(rest, 1) if dim == 1]
    return site.layer(layers.PReLU, shared_axes=shared or None, weights={"alpha": slope.reshape(*rest)})(x)


@op("Elu", layout=ANY, makes=(layers.ELU,))
def elu(site: Site, x, *, alpha=1.0):
    return site.layer(layers.ELU, alpha=alpha)(x)


@op("Celu", layout=ANY, makes=(layers.Activation,))
def celu(site: Site, x, *, alpha=1.0):
    return site.layer(layers.Activation, activation="celu")(x) if alpha == 1 else ops.celu(x, alpha)


@op("Selu", layout=ANY, makes=(layers.Activation,))
def selu(site: Site, x, *, alpha=SELU[0], gamma=SELU[1]):
    if (alpha, gamma) == SELU:
        return site.layer(layers.Activation, activation="selu")(x)
    return gamma * ops.elu(x, alpha)


@op("Gelu", layout=ANY, makes=(layers.Activation,))
def gelu(site: Site, x, *, approximate="none"):
    if site.twin("gelu"):
        exact = approximate == "none"
        inside = x * 0.5**0.5 if exact else (2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)
        return 0.5 * x * (1 + (ops.erf if exact else ops.tanh)(inside))
    if approximate == "none":
        return site.layer(layers.Activation, activation="gelu")(x)
    return ops.gelu(x, approximate=True)


@op("Swish", layout=ANY, makes=(layers.Activation,))
def swish(site: Site, x, *, alpha=1.0):
    return site.layer(layers.Activation, activation="silu")(x) if alpha == 1 else x * ops.sigmoid(alpha * x)


@op("Silu", domain=DOMAIN, layout=ANY, makes=(layers.Activation,))
def silu(site: Site, x):
    return site.layer(layers.Activation, activation="silu")(x)


@op("StopGradient", domain=DOMAIN, layout=ANY)
def stop_gradient(x):
    return ops.stop_gradient(x)


@op("LogSigmoid", domain=DOMAIN, layout=ANY, makes=(layers.Activation,))
def log_sigmoid(site: Site, x):
    return site.layer(layers.Activation, activation="log_sigmoid")(x)


@op("HardSigmoid", layout=ANY, makes=(layers.Activation,))
def hard_sigmoid(site: Site, x, *, alpha=0.2, beta=0.5):
    if alpha == 1 / 6 and beta == 0.5:
        return site.layer(layers.Activation, activation="hard_sigmoid")(x)
    return ops.clip(alpha * x + beta, 0, 1)


@op("ThresholdedRelu", layout=ANY)
def thresholded_relu(x, *, alpha=1.0):
    return ops.where(ops.greater(x, alpha), x, ops.zeros_like(x))


@op("Shrink", layout=ANY)
def shrink(site: Site, x, *, bias=0.0, lambd=0.5):
    """Integers are compared and shifted as numbers of floating point, and rounded towards zero."""
    y = x if "float" in site.dtype else ops.cast(x, "float32")
    above = ops.where(ops.greater(y, lambd), y - bias, ops.zeros_like(y))
    return ops.cast(ops.where(ops.less(y, -lambd), y + bias, above), site.dtype)


@op("Softmax", layout=ANY, axes="axis", makes=(layers.Softmax,))
def softmax(site: Site, x, *, axis=-1):
    if x.ndim > SOFTMAX_AXES:
        powers = ops.exp(x - ops.max(x, axis=axis, keepdims=True))
        return powers / ops.sum(powers, axis=axis, keepdims=True)
    return site.layer(layers.Softmax, axis=axis)(x)


@op("LogSoftmax", layout=ANY, axes="axis")
def log_softmax(x, *, axis=-1):
    return ops.log_softmax(x, axis=axis)
