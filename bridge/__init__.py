"""Give it a trained PyTorch model; get back the Keras 3 model you would have written by hand, proved equal.

    result = bridge.convert(module, args, dynamic_shapes=...)
    result.model, result.weights, result.report
    result.save("model.keras")

Heavy frameworks are imported when they are used.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

from bridge.errors import (
    BridgeError,
    ExportError,
    Mismatch,
    MissingPackage,
    OutputError,
    SourceError,
    Unsupported,
    WeightsError,
)

if TYPE_CHECKING:
    from bridge.convert import Conversion, convert
    from bridge.convert import open_saved as open
    from bridge.convert import verify_saved as verify
    from bridge.report import Report
    from bridge.transfer import transfer
    from bridge.weights import WeightMap

_LAZY = {
    "Conversion": "bridge.convert",
    "convert": "bridge.convert",
    "open": "bridge.convert",
    "Report": "bridge.report",
    "WeightMap": "bridge.weights",
    "transfer": "bridge.transfer",
    "verify": "bridge.convert",
}

_ELSEWHERE = {"open": "open_saved", "verify": "verify_saved"}  # names that are taken where they are defined

__all__ = [
    "BridgeError",
    "Conversion",
    "ExportError",
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


class _Package(types.ModuleType):
    """`bridge.convert` and `bridge.transfer` are functions, whoever imports the modules of the same names."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _LAZY and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'bridge' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), _ELSEWHERE.get(name, name))
    globals()[name] = value
    return value
