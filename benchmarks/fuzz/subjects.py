"""What is converted while `bridge` is switched wrong, each kind with the folders in which that is done: random graphs,
graphs of old opsets, torch modules, and torch modules that are trained."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import keras
import torch

import bridge
from benchmarks.fuzz import graphs, learning, modules
from benchmarks.fuzz.outcomes import ALLOWED, changed
from bridge.verification.metrics import worst_error
from bridge.verification.runners import keras_call

BEST_OF = 4  # graphs drawn for each that is taken
OLD = range(5, 13)  # opsets
FROZEN = 0.15  # share of the layers
DRAWS = ((0, 0), (1, 0), (2, 2))  # other values, and by how much the free axes are longer


class Subject(Protocol):
    """What is converted, and compared by other means than those of the proof."""

    def wanted(self) -> Any:
        """What the source gives; None where it does not run."""

    def converted(self, verify: bool = True) -> Any:
        """`bridge.convert` of it."""

    def fault(self, converted: Any, wanted: Any) -> str:
        """What differs, or nothing; what does not run differs."""

    def shown(self) -> str:
        """What a test can be made of."""


@dataclass(frozen=True)
class Kind:
    """Subjects by seed, and the folders of the package (or beginnings of names) to be switched, in turn."""

    make: Callable[[int], Subject]
    folders: tuple[str, ...]


def graph(seed: int, opsets: Sequence[int] = graphs.OPSETS) -> graphs.Graph:
    """Of some graphs the one of most nodes and weights."""
    drawn = (graphs.case(number, opsets) for number in range(BEST_OF * seed, BEST_OF * (seed + 1)))
    return max(drawn, key=lambda graph: len(graph.model.graph.node) + 2 * len(graph.model.graph.initializer))


def old_graph(seed: int) -> graphs.Graph:
    return graph(seed, OLD)


def module(seed: int) -> Module:
    return Module(replace(modules.case(seed), scale=1.0, dtype="float32", training=False))


def learner(seed: int) -> Module:
    """A module of which some is frozen, compared in training too."""
    return Module(replace(modules.case(seed), scale=1.0, dtype="float32", training=True))


@dataclass(frozen=True)
class Module:
    """A torch module; with `training`, as it learns."""

    drawn: modules.Module

    def wanted(self) -> Any:
        runs = []
        for seed, longer in DRAWS:
            source, inputs, _ = self._made(seed, longer)
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                try:
                    outputs = source(*inputs)
                except RuntimeError:
                    continue
            leaves = outputs if isinstance(outputs, tuple) else (outputs,)
            runs.append(([x.numpy() for x in inputs], [y.numpy() for y in leaves]))
        source, inputs, _ = self._made()
        known = learning.wanted(source, inputs) if runs and self.drawn.training else None
        return None if not runs or self.drawn.training and known is None else (runs, known)

    def converted(self, verify: bool = True) -> bridge.Conversion:
        keras.utils.clear_session(free_memory=False)
        source, inputs, shapes = self._made()
        training = verify and self.drawn.training
        return bridge.convert(source, inputs, dynamic_shapes=shapes, verify=verify, training=training)

    def fault(self, converted: bridge.Conversion, wanted: Any) -> str:
        try:
            return self._fault(converted, *wanted)
        except Exception as error:
            return f"does not run: {type(error).__name__}: {error}"

    def _fault(self, converted: bridge.Conversion, runs: Any, known: Any) -> str:
        for inputs, outputs in runs:
            if (error := worst_error(keras_call(converted.model)(inputs), outputs)) > ALLOWED:
                return f"{error:.2g} off"
        source, examples, _ = self._made()
        fault = changed(converted.weights, source)
        return fault or (learning.fault(converted, examples, known) if self.drawn.training else "")

    def shown(self) -> str:
        return self.drawn.shown()

    def _made(self, seed: int = 0, longer: int = 0) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...], Any]:
        source, inputs, shapes = self.drawn.make(seed, longer)
        if self.drawn.training:
            chosen = random.Random(self.drawn.seed)
            for layer in source.layers:
                layer.requires_grad_(chosen.random() > FROZEN)
        return source, inputs, shapes


KINDS = (
    Kind(graph, ("ops/", "passes/", "ops/", "", "ops/", "frontend/")),
    Kind(module, ("frontend/torch_", "frontend/torch_", "", "frontend/torch_", "ops/")),
    Kind(old_graph, ("frontend/onnx_",)),
    Kind(learner, ("", "ops/", "frontend/torch_")),
)
