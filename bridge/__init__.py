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
    Mismatch,
    MissingPackage,
    OutputError,
    SourceError,
    Unsupported,
    WeightsError,
)

if TYPE_CHECKING:
    from bridge.conversion import Conversion, convert
    from bridge.conversion import open_saved as open
    from bridge.conversion import verify_saved as verify
    from bridge.handwritten import transfer
    from bridge.report import Report
    from bridge.weights import WeightMap

_LAZY = {
    "Conversion": "bridge.conversion",
    "convert": "bridge.conversion",
    "open": "bridge.conversion",
    "Report": "bridge.report",
    "WeightMap": "bridge.weights",
    "transfer": "bridge.handwritten",
    "verify": "bridge.conversion",
}

_ELSEWHERE = {"open": "open_saved", "verify": "verify_saved"}  # names that are taken where they are defined

__all__ = [
    "BridgeError",
    "Conversion",
    "ExportError",
    "InternalError",
    "Mismatch",
    "MissingPackage",
    "OutputError",
    "Report",
    "SourceError",
    "Unsupported",
    "WeightMap",
    "WeightsError",
    "convert",
    "open",
    "transfer",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'bridge' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), _ELSEWHERE.get(name, name))
    globals()[name] = value
    return value
