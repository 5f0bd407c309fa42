"""What goes into a format and what comes out of it, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bridge.errors import SourceError, WeightsError, calling
from bridge.layers.generation import named

if TYPE_CHECKING:
    import keras

    from bridge.report.report import Report
    from bridge.serving.proof import Trial
    from bridge.verification.metrics import Arrays
    from bridge.verification.trials import Run
    from bridge.weights.blueprint import Blueprint
    from bridge.weights.weight_map import WeightMap


@dataclass(frozen=True)
class Made:
    """A conversion to be written, and what is asked of that."""

    model: keras.Model
    weights: WeightMap
    report: Report
    blueprint: Blueprint | None
    precision: str | None = None  # of the weights; None for their own
    calibration: Iterable[Any] | None = None

    @property
    def inputs(self) -> list[str]:
        return [x.name for x in self.model.inputs]

    @property
    def outputs(self) -> list[str]:
        return output_names(self.model)

    def by_names(self, runtime: Callable[[dict[str, np.ndarray]], Mapping[str, Any]]) -> Run:
        """What is written as a function of arrays, of a `runtime` that takes and gives them by their names."""

        def run(arrays: Arrays) -> Arrays:
            with calling():
                found = runtime(dict(zip(self.inputs, arrays, strict=True)))
                return [np.array(found[name]) for name in self.outputs]

        return run

    def graph(self, title: str) -> Blueprint:
        """The graph that the model was built of. Raises `SourceError` where there is none, and `WeightsError` where it
        has other variables since."""
        if self.blueprint is None:
            raise SourceError(
                f"{title} is written of the graph that a model was built of, and this one has none: it was made for "
                f"inference, or loaded from what an older bridge saved. Export the conversion itself (runtimes fold "
                f"normalisations by themselves), or as 'saved_model' or 'litert'"
            )
        held = {id(variable) for variable in self.model.variables}
        gone = dict.fromkeys(entry.layer for entry in self.weights if id(entry.variable) not in held)
        if gone:
            raise WeightsError(
                f"{title} is written of the weights that the model was built with, and {', '.join(gone)} "
                f"has others since: export it before it is quantised or changed, or as 'saved_model' or 'litert'"
            )
        return self.blueprint


def output_names(model: keras.Model) -> list[str]:
    """In the order in which Keras lists the outputs; those of a list by their number."""
    names = {id(y): f"output_{name}" if name.isdigit() else name for name, y in named(model.output)}
    return [names[id(y)] for y in model.outputs]


@dataclass(frozen=True)
class Written:
    """The files, what their own runtime makes of them, and what there is to say."""

    files: Sequence[Path]
    run: Run
    notes: tuple[str, ...] = ()
    trials: Sequence[Trial] | None = None  # at which it is compared, if not at those of the report
