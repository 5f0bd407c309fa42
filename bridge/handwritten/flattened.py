"""The order of features behind a Flatten or before a Reshape into images: torch counts channels first, Keras last.

A Keras model is walked back from a layer to what gives its features. Each axis of a tensor there is followed to its
place in torch, where channels come first and axes are moved as in Keras.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from bridge.graph.axes import FactorOrder
from bridge.handwritten.keras_slots import Layer, nearest
from bridge.keras_compat import call_of, made_by

IMAGES = {  # layers that read and give channels where their `data_format` says
    f"{name}{rank}D"
    for name in (
        "Conv DepthwiseConv SeparableConv MaxPooling AveragePooling AdaptiveMaxPooling AdaptiveAveragePooling "
        "UpSampling ZeroPadding Cropping"
    ).split()
    for rank in (1, 2, 3)
} | {f"Conv{rank}DTranspose" for rank in (1, 2, 3)}
POINTWISE = set(  # layers that leave every axis where it is
    "Activation ReLU LeakyReLU PReLU ELU Softmax Dropout SpatialDropout1D SpatialDropout2D SpatialDropout3D "
    "GaussianNoise GaussianDropout AlphaDropout BatchNormalization LayerNormalization GroupNormalization "
    "RMSNormalization Add Subtract Multiply Average Maximum Minimum Concatenate ActivityRegularization "
    "Rescaling".split()
)


class Tensor(Protocol):
    """A symbolic tensor, between two layers."""

    @property
    def shape(self) -> tuple[int | None, ...]: ...
    @property
    def dtype(self) -> object: ...


@dataclass(frozen=True)
class Orders:
    """How the features that a layer reads, and those it gives, are ordered, of torch's; None where as in torch, or
    unknown."""

    read: FactorOrder | None = None
    given: FactorOrder | None = None


def feature_orders(layers: Iterable[Layer]) -> dict[int, Orders]:
    """Of the layers that have another order than torch, by their ids."""
    layers = [layer for layer in layers if _is_in_graph(layer)]
    found = {id(layer): Orders(read=_read(layer)) for layer in layers}
    for layer, order in itertools.chain.from_iterable(map(_unfolded, layers)):
        pointwise = nearest(layer, POINTWISE)
        found[id(layer)] = Orders(order) if pointwise else Orders(found.get(id(layer), Orders()).read, order)
    return {layer: orders for layer, orders in found.items() if orders != Orders()}


def _is_in_graph(layer: Layer) -> bool:
    try:
        return hasattr(layer, "input")
    except ValueError:  # it has been called, but in no graph
        return False


def _read(layer: Layer) -> FactorOrder | None:
    tensor = layer.input
    while (found := _source(tensor)) and nearest(found[0], POINTWISE - {"Concatenate"}):
        tensor = found[1]
    return _joined(*found, tensor) if found else None


def _unfolded(layer: Layer) -> Iterator[tuple[Layer, FactorOrder]]:
    """Where `layer` reads an image that a Reshape makes of features: the layers that give those, with their order."""
    if not nearest(layer, IMAGES) or layer.data_format == "channels_first":
        return
    tensor = layer.input
    while (found := _source(tensor)) and nearest(found[0], POINTWISE | IMAGES) and not found[0].weights:
        tensor = found[1]
    if not found or not nearest(found[0], {"Reshape"}) or len(found[1].shape) != 2:
        return
    *sizes, channels = tensor.shape[1:]
    order = FactorOrder(-1, (channels, *sizes), (*range(1, len(sizes) + 1), 0))
    while found := _source(found[1]):
        yield found[0], order
        if not nearest(found[0], POINTWISE):
            return


def _source(tensor: Tensor) -> tuple[Layer, Tensor] | None:
    """The layer that gives `tensor`, and what it reads first; None at an input."""
    made = made_by(tensor)
    read = call_of(*made).reads if made else []
    return (made[0], read[0]) if made and read else None


def _joined(layer: Layer, source: Tensor, result: Tensor) -> FactorOrder | None:
    """The order of the last axis of `result`, if `layer` joins axes of `source` to make it."""
    if nearest(layer, {"TimeDistributed"}):
        layer = layer.layer
    if not nearest(layer, {"Flatten", "Reshape"}):
        return None
    shape, places = tuple(source.shape), _places(source)
    kept = len(result.shape) - 1
    joined = tuple(size for size in shape[kept:] if size is not None)
    if (
        places is None
        or len(joined) < len(shape) - kept
        or math.prod(joined) != result.shape[-1]
        or len(joined) < 2
    ):
        return None
    if result.shape[1:kept] != shape[1:kept]:
        return None
    order = places[kept:]
    in_torch = sorted(range(len(joined)), key=lambda axis: order[axis])
    sizes = tuple(joined[axis] for axis in in_torch)
    return FactorOrder(-1, sizes, tuple(in_torch.index(axis) for axis in range(len(joined))))


def _places(tensor: Tensor) -> Sequence[int] | None:
    """For each axis of `tensor` its place in torch's tensor; None where that is unknown."""
    rank = len(tensor.shape)
    found = _source(tensor)
    if found is None:
        return _channels_last(rank) if rank > 3 else None
    layer, source = found
    if nearest(layer, IMAGES):
        return range(rank) if layer.data_format == "channels_first" else _channels_last(rank)
    places = _places(source)
    if places is not None and nearest(layer, {"Permute"}):
        return [places[axis] for axis in (0, *layer.dims)]
    return places if nearest(layer, POINTWISE) and len(source.shape) == rank else None


def _channels_last(rank: int) -> list[int]:
    return [0, *range(2, rank), 1]
