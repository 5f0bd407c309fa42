"""How a setting of a Keras layer that changes its function is compared with torch's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir

from bridge.graph.shapes import Dim
from bridge.graph.windows import Window
from bridge.handwritten.keras_slots import Layer, Slot, described
from bridge.handwritten.torch_parts import Part

FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # of one number, as torch computes them
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
}
POINTS = np.linspace(-5, 5, 41, dtype=np.float32)  # where two such functions are compared
MISSING = object()
CLOSE = 1e-6  # relative, of numbers that are rounded to float32 somewhere


class When(Enum):
    """When a setting that differs makes another model."""

    ALWAYS = "always"
    BY_ITSELF = "unless what stands around the layer makes up for it, which running both shows"
    TRAINING = "in training: compared where the torch module is in training mode"


class Module(Protocol):
    """A module of torch, whose settings are read by their names."""

    def __getattr__(self, name: str, /) -> Any: ...


@dataclass(frozen=True)
class Given:
    """What is compared."""

    slot: Slot
    layer: Layer  # of the slot, or around it
    part: Part

    @property
    def module(self) -> Module:
        """The torch module, where it is known."""
        assert self.part.module is not None
        return self.part.module

    @property
    def here(self) -> str:
        return str(self.slot) if self.layer is self.slot.layer else described(self.layer)

    @property
    def there(self) -> str:
        return str(self.part) if self.layer is self.slot.layer else str(replace(self.part, role=""))


# Keras's value, torch's -> whether they agree, None if unknown
Same = Callable[[Given, Any, Any], bool | None]


def equal(given: Given, have: object, want: object) -> bool:
    return bool(have == want)


def close(given: Given, have: float, want: float | None) -> bool:
    return want is not None and math.isclose(have, want, rel_tol=CLOSE)


def falsy(given: Given, have: object, want: object) -> bool:
    return not have and not want


def same_function(given: Given, have: Callable[[np.ndarray], object], want: str) -> bool:
    """Whether an activation gives torch's values, whatever it is called: there are two hard sigmoids."""
    try:
        values = np.asarray(have(POINTS))
    except Exception:  # it is no function of an array
        return False
    return values.shape == POINTS.shape and bool(np.allclose(values, FUNCTIONS[want](POINTS), atol=1e-5))


def same_pads(given: Given, have: object, want: str | Sequence[int]) -> bool:
    """Of a convolution: cells before and behind each axis. Keras's "same" with strides depends on the size."""
    module = given.module
    ours = _pads(given.layer)
    axes = zip(range(len(ours)), module.kernel_size, module.dilation, strict=True)
    theirs = [_torch_pads(want, *axis) for axis in axes]
    return ours == theirs and (module.padding_mode == "zeros" or not any(map(any, theirs)))


def _pads(layer: Layer) -> list[tuple[int, int] | None]:
    windows = [
        Window(*axis, pads=None)
        for axis in zip(_spatial(layer), layer.kernel_size, layer.strides, layer.dilation_rate, strict=True)
    ]
    if layer.padding == "valid":
        return [(0, 0)] * len(windows)
    return [(w.span - 1, 0) if layer.padding == "causal" else w.same for w in windows]


def _torch_pads(padding: str | Sequence[int], axis: int, kernel: int, dilation: int) -> tuple[int, int]:
    if padding == "same":
        total = dilation * (kernel - 1)
        return total // 2, total - total // 2
    return (0, 0) if isinstance(padding, str) else (padding[axis], padding[axis])


def _spatial(layer: Layer) -> list[Dim]:
    """The sizes that a convolution's input was built with; of those that are not known, a size without a name."""
    shape = built_shape(layer)
    count = len(layer.kernel_size)
    if shape is None:
        return [ir.SymbolicDim(None)] * count
    sizes = shape[2:] if layer.data_format == "channels_first" else shape[1:-1]
    return [ir.SymbolicDim(None) if size is None else size for size in sizes]


def built_shape(layer: object) -> tuple[int | None, ...] | None:
    """The shape of the input that a layer was built with; None where it has several, or keeps none."""
    config = layer.get_build_config() if hasattr(layer, "get_build_config") else None
    shape = (config or {}).get("input_shape")
    flat = isinstance(shape, tuple | list) and all(size is None or isinstance(size, int) for size in shape)
    return tuple(shape) if shape is not None and flat else None


def same_crops(given: Given, have: object, want: object) -> bool:
    """Of a transposed convolution: what is cut off at both ends of each axis (less than nothing: put on)."""
    layer, module = given.layer, given.module
    count = len(layer.kernel_size)
    more = layer.output_padding
    more = [more] * count if more is None or isinstance(more, int) else list(more)
    ours = map(_crops, [layer.padding] * count, layer.kernel_size, layer.strides, layer.dilation_rate, more)
    return list(ours) == [(p, p - q) for p, q in zip(module.padding, module.output_padding, strict=True)]


def _crops(padding: str, kernel: int, stride: int, dilation: int, more: int | None) -> tuple[int, int]:
    span = (kernel - 1) * dilation + 1
    if padding == "valid":
        return 0, -(max(span, stride) - span if more is None else more)
    total = span - stride if more is None else span - span % 2 - more
    before = span - 1 - min((2 * span - 1 - total) // 2, span - 1)
    return before, total - before


def last_axes(given: Given, have: int | Sequence[int], want: object) -> bool | None:
    """Whether the axes are the last ones, as many as torch normalises (`normalized_shape`, or the channels)."""
    axes = [have] if isinstance(have, int) else list(have)
    count = len(want) if isinstance(want, tuple) else 1
    shape = built_shape(given.layer)
    if shape is None and any(axis >= 0 for axis in axes):
        return None
    rank = len(shape or ())
    return sorted(axis - rank if axis >= 0 else axis for axis in axes) == list(range(-count, 0))


def shared_but_channels(given: Given, have: object, want: object) -> bool:
    return all(size == 1 for size in given.layer.alpha.shape[:-1])


def backwards(given: Given, have: object, want: object) -> bool:
    """torch's second direction goes backwards."""
    return bool(have) == (given.part.role == "reverse")


def one_axis(given: Given, have: Sequence[int] | None, want: object) -> bool:
    return have is None or tuple(have) == (1,)


@dataclass(frozen=True)
class Setting:
    """An argument of a Keras layer, what corresponds to it in torch, and how they are compared."""

    keras: str = ""  # the argument; "" where Keras has none
    torch: str = (
        ""  # the attributes of the module, the first of which there is counts; "" where it is always the same
    )
    always: object = None  # what torch has where no attribute says it, or Keras where no argument does
    same: Same = equal
    when: When = When.ALWAYS
    to_keras: Callable[[Any], object] | None = None  # torch's value as the argument

    def difference(self, given: Given) -> str | None:
        """The two sides in words if they differ. What one of them does not tell is not compared."""
        module = given.part.module
        if self.when is When.TRAINING and not getattr(module, "training", False):
            return None
        names = [name for name in self.torch.split() if hasattr(module, name)]
        have = _argument(given.layer, self.keras) if self.keras else self.always
        if (self.torch and not names) or have is MISSING:
            return None
        want = getattr(module, names[0]) if names else self.always
        if self.to_keras is not None:
            want = self.to_keras(want)
        if self.same(given, have, want) is not False:
            return None
        theirs = ", ".join(f"{name}={shown(getattr(module, name))}" for name in names)
        return self._said(given, have, want, theirs)

    def _said(self, given: Given, have: object, want: object, theirs: str) -> str:
        way_out = " (or call .eval() on it if nothing is to train)" if self.when is When.TRAINING else ""
        if not self.keras:
            return f"torch's {given.there} has {theirs}, for which {given.here} has no argument{way_out}"
        settable = self.same in (equal, close, same_function, falsy) and want is not None
        use = f": use {self.keras}={shown(want)}" if settable else ""
        theirs = f"has {theirs}" if theirs else f"always has {shown(self.always)}"
        return f"{given.here} has {self.keras}={shown(have)}, torch's {given.there} {theirs}{use}{way_out}"


def _argument(layer: Layer, name: str) -> object:
    """The argument of a layer, as it keeps it or would be made again; `MISSING` if it has none of that name."""
    value = getattr(layer, name, MISSING)
    return layer.get_config().get(name, MISSING) if value is MISSING else value


def shown(value: object) -> str:
    if callable(value):
        return repr(getattr(value, "__name__", type(value).__name__))
    return f"{value:g}" if isinstance(value, float) else repr(value)
