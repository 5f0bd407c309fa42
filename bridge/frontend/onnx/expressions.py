"""All operators that are written out in others, each family in a file of its own."""

from bridge.frontend.onnx import (  # noqa: F401 - each enters its own
    attention,
    boxes,
    classical,
    integers,
    microsoft,
    qlinear,
    training,
    trees,
)
from bridge.frontend.onnx.lowered import LOWERINGS, MICROSOFT, lower

__all__ = ["LOWERINGS", "MICROSOFT", "lower"]
