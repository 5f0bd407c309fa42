"""What torch's exporter reads anew for every export, read once: it is most of the time that a small module takes."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

import torch._export.utils as export_utils
from torch.onnx._internal.exporter._constants import TORCHLIB_OPSET
from torch.onnx._internal.exporter._registration import ONNXRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator

_from_torchlib = ONNXRegistry.from_torchlib


@functools.cache
def _torchlib(opset_version: int) -> Any:
    """The translations of all operators for an opset, some 600, whose signatures are parsed out of their source."""
    return _from_torchlib(opset_version)


def _copied(opset_version: int = TORCHLIB_OPSET) -> Any:
    """A registry that translations of our own can be added to."""
    whole, registry = _torchlib(opset_version), ONNXRegistry()
    registry._opset_version = whole._opset_version
    registry.functions = {target: list(found) for target, found in whole.functions.items()}
    return registry


@contextlib.contextmanager
def read_once() -> Iterator[None]:
    """torch exporting with one registry of translations in the process, and looking through its operators once."""
    looked = export_utils._materialize_cpp_cia_ops
    ONNXRegistry.from_torchlib = staticmethod(_copied)  # type: ignore[method-assign]
    export_utils._materialize_cpp_cia_ops = functools.cache(looked)
    try:
        yield
    finally:
        ONNXRegistry.from_torchlib = _from_torchlib  # type: ignore[method-assign]
        export_utils._materialize_cpp_cia_ops = looked
