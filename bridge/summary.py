"""What a report says of a conversion before anything is compared."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from bridge.graph.ranges import FREE, Ranges
from bridge.report.report import Report, Row, Variable
from bridge.verification.precision import precision

if TYPE_CHECKING:
    import keras

    from bridge.build.builder import Built
    from bridge.frontend.source import Source
    from bridge.weights.weight_map import WeightMap

FRAMES = 100  # of Python's, in a program that loads a model


def axes(model: ir.Model) -> tuple[str, ...]:
    """Of every input: its axes, free ones by name and range, if it has one, fixed ones by size."""
    ranges = Ranges.of(model).told

    def text(dim: int | ir.SymbolicDim) -> str:
        if isinstance(dim, int):
            return f"{dim} fixed"
        found = {name: ranges[name] for name in sorted(dim.free_symbols()) if name in ranges}
        told = [f"{name}: {sizes}" for name, sizes in found.items() if sizes != FREE]
        if not told:
            return f"{dim} free"
        return told[0] if str(dim) in found else f"{dim} free, {', '.join(told)}"

    return tuple(f"{value.name}: ({', '.join(map(text, value.shape))})" for value in model.graph.inputs)


def account(opened: Source, built: Built, seconds: dict[str, float]) -> Report:
    """What became what, and from which parameters."""
    return replace(
        describe(opened, built.model),
        rows=tuple(Row(made.path, made.op, made.layer, made.name, made.parameters) for made in built.made),
        variables=tuple(
            Variable(
                e.variable.path, e.weight.dims, e.variable.trainable, str(e.recipe), not e.recipe.invertible
            )
            for e in built.weights
        ),
        transposes=built.transposes,
        notes=(*opened.notes, *_depth(built.model), *_parted(built.weights)),
        seconds=seconds,
    )


def _depth(model: keras.Model) -> tuple[str, ...]:
    """Keras reads a file by a call within a call for each operation in a row."""
    depth, limit = len(model._nodes_by_depth), sys.getrecursionlimit()
    if depth < limit - FRAMES:
        return ()
    needed = f"sys.setrecursionlimit({depth + limit})"
    return (
        f"{depth} operations stand in a row, more than Keras reads from a file without {needed} before it",
    )


def _parted(weights: WeightMap) -> tuple[str, ...]:
    """What trains otherwise than in torch, since one parameter is several variables."""
    return tuple(
        f"{name} is {' and '.join(paths)}: the same numbers, which Keras trains apart"
        for name, paths in weights.parted.items()
    )


def describe(opened: Source, model: keras.Model) -> Report:
    """What can be said of any Keras model beside its source."""
    import keras

    state = opened.model.meta.get("state")
    parameters = None
    if opened.torch is not None and state is not None:
        parameters = sum(
            value.size
            for name, value in state.values.items()
            if state.trainable[name] and name not in state.aliases
        )
    return Report(
        source=opened.title,
        backend=keras.backend.backend(),
        versions={name: version(name) for name in ("onnx", "onnx-ir", "keras", "numpy")},
        axes=axes(opened.model),
        notes=opened.notes,
        seed=opened.asked.seed,
        dtype=precision(opened.model.graph),
        source_parameters=parameters,
        trainable=_count(model.trainable_variables),
        non_trainable=_count(model.non_trainable_variables),
        custom_layers=tuple(layer.name for layer in model.layers if _is_custom(layer)),
    )


def _is_custom(layer: Any) -> bool:
    """Whether plain Keras cannot load the layer: it, its cell or its activation is registered by this package."""
    import keras

    return '"bridge>' in json.dumps(keras.saving.serialize_keras_object(layer))


def _count(variables: list[Any]) -> int:
    return sum(math.prod(variable.shape) for variable in variables if "seed_generator" not in variable.path)
