"""Give it a trained PyTorch model; get back the Keras 3 model you would have written by hand, proved equal.

    result = bridge.convert(module, args, dynamic_shapes=...)
    result.model, result.weights, result.report
    result.save("model.keras")

Heavy frameworks are imported when they are used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bridge.errors import (
    BridgeError,
    ExportError,
    InternalError,
    MismatchError,
    MissingPackageError,
    OutputError,
    ProcessError,
    Refusal,
    SourceError,
    UnsupportedError,
    WeightsError,
)

if TYPE_CHECKING:
    from bridge.conversion import convert, inspect
    from bridge.conversion import load_saved as load
    from bridge.conversion import verify_saved as verify
    from bridge.converted import Conversion
    from bridge.diagnosis import bisect
    from bridge.handwritten.transfer import transfer
    from bridge.layers import reset_states
    from bridge.report.report import Report
    from bridge.verification.options import Verify
    from bridge.weights.weight_map import WeightMap

_LAZY = {
    "Conversion": "bridge.converted",
    "bisect": "bridge.diagnosis",
    "convert": "bridge.conversion",
    "inspect": "bridge.conversion",
    "load": "bridge.conversion",
    "Report": "bridge.report.report",
    "Verify": "bridge.verification.options",
    "reset_states": "bridge.layers",
    "WeightMap": "bridge.weights.weight_map",
    "transfer": "bridge.handwritten.transfer",
    "verify": "bridge.conversion",
}

__version__: str
_ELSEWHERE = {"load": "load_saved", "verify": "verify_saved"}  # names that are taken where they are defined

__all__ = [
    "BridgeError",
    "Conversion",
    "ExportError",
    "InternalError",
    "MismatchError",
    "MissingPackageError",
    "OutputError",
    "ProcessError",
    "Refusal",
    "Report",
    "SourceError",
    "UnsupportedError",
    "Verify",
    "WeightMap",
    "WeightsError",
    "bisect",
    "convert",
    "inspect",
    "load",
    "reset_states",
    "transfer",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("onnx-keras-bridge")
    if name not in _LAZY:
        raise AttributeError(f"module 'bridge' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), _ELSEWHERE.get(name, name))
    globals()[name] = value
    return value
