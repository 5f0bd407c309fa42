"""Whether a saved model can be held against a source: the same inputs and outputs, and values that fit into memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from bridge.errors import SourceError
from bridge.frontend.source import Source
from bridge.graph import structure
from bridge.graph.shapes import shape_of
from bridge.keras_compat import largest_bytes
from bridge.layers import stateful_layers
from bridge.passes.bounds import MAX_VALUE_BYTES

if TYPE_CHECKING:
    import keras


def require_made_from(path: object, model: keras.Model, source: Source, simple: ir.Model) -> None:
    """Raise `SourceError` where `model` was not made from `source`, simplified to `simple`, or has a value of more
    memory than a source may ask for."""
    _require_same_inputs(path, model, simple)
    outputs_of(path, model, source)
    _require_room(path, model)


def outputs_of(path: object, model: keras.Model, source: Source) -> list[keras.KerasTensor]:
    """Those of `model` in the order of its source's. Raises `SourceError` where it has others."""
    places = source.outputs or structure.listed(len(source.model.graph.outputs))
    try:
        found = structure.leaves(places, model.output)
    except (LookupError, TypeError):
        found = []
    if len(found) != len(model.outputs) or any(isinstance(part, dict | list | tuple) for part in found):
        raise SourceError(f"{path} gives other outputs than its source: it was not made from it")
    return found


def as_kept(model: keras.Model, source: Source) -> Source:
    """The source of a model that keeps its state between calls likewise, of as many sequences: the size of an axis that
    is free in the source."""
    if not stateful_layers(model):
        return source
    pairs = zip(model.inputs, source.model.graph.inputs, strict=False)
    sizes = (pair for x, value in pairs for pair in zip(x.shape, shape_of(value), strict=False))
    fixed = (size for size, dim in sizes if isinstance(size, int) and not isinstance(dim, int))
    return source.keeping_state(next(fixed, None))


def _require_same_inputs(path: object, model: keras.Model, source: ir.Model) -> None:
    ours = [tuple(tensor.shape) for tensor in model.inputs]
    theirs = [tuple(d if isinstance(d, int) else None for d in shape_of(x)) for x in source.graph.inputs]
    if ours != theirs:
        raise SourceError(
            f"{path} takes inputs of shapes {ours}, its source {theirs}: it was not made from it"
        )


def _require_room(path: object, model: keras.Model) -> None:
    """Raise `SourceError` if the model has a value of more memory than a source may ask for."""
    size = largest_bytes(model)
    if size > MAX_VALUE_BYTES:
        raise SourceError(
            f"{path}: a layer of it gives {size / (1 << 30):,.0f} GiB or more; values of more than "
            f"{MAX_VALUE_BYTES >> 30} GiB are not computed"
        )
