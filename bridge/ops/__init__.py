"""The operators, one file for each family; importing this package registers all of them."""

from bridge.ops import (  # noqa: F401
    activation,
    attention,
    control_flow,
    convolution,
    dropout,
    elementwise,
    fourier,
    indexing,
    linear,
    normalization,
    pieces,
    pooling,
    quantized,
    recurrent,
    reduction,
    resize,
    sampling,
    selection,
    shape,
)
from bridge.ops.registry import builders, find

__all__ = ["builders", "find"]
