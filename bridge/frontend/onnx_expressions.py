"""All operators that are written out in others, each family in a file of its own."""

from bridge.frontend import onnx_attention, onnx_integers, onnx_microsoft, onnx_qlinear  # noqa: F401 - each enters its own
from bridge.frontend.onnx_lowered import LOWERINGS, MICROSOFT, lower

__all__ = ["LOWERINGS", "MICROSOFT", "lower"]
