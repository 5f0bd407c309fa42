"""What is converted while `bridge` is switched wrong, each kind with the files in which that is done: random graphs,
operators as old opsets had them, torch's functions, torch modules, and torch modules that learn."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import keras
import numpy as np
import onnx
import onnx.helper
import torch

import bridge
from benchmarks import functions
from benchmarks.fuzz import graphs, learning, modules
from benchmarks.fuzz.outcomes import ALLOWED, changed
from benchmarks.fuzz.switches import Start
from bridge.frontend.onnx.adapters import ADAPTERS
from bridge.verification.metrics import worst_error
from bridge.verification.runners import keras_call
from tests.opset_rows import ROWS, Row

BEST_OF = 4  # graphs drawn for each that is taken
FROZEN = 0.15  # share of the layers
DRAWS = ((0, 0), (1, 0), (2, 2))  # other values, and by how much the free axes are longer
TOGETHER = 3  # functions in one module
STEP = 37  # between one row of a table and the next that is taken, so that a few are of all sorts
Run = tuple[list[np.ndarray], list[np.ndarray]]  # inputs and outputs


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
    """Subjects by seed, and the files of the package to be switched, by the beginnings of their names, in turn."""

    make: Callable[[int], Subject]
    files: tuple[Start, ...]


def graph(seed: int) -> graphs.Graph:
    """Of some graphs the one of most nodes and weights."""
    drawn = map(graphs.case, range(BEST_OF * seed, BEST_OF * (seed + 1)))
    return max(drawn, key=lambda graph: len(graph.model.graph.node) + 2 * len(graph.model.graph.initializer))


def old(seed: int) -> Old:
    """An operator of the tests' table whose form is another now."""
    runs = [(row, version) for row in ROWS for version in row.versions if _is_adapted(row, version)]
    return Old(*runs[seed * STEP % len(runs)])


def _is_adapted(row: Row, version: int) -> bool:
    return not row.refused and any(version < below for below, _ in ADAPTERS.get(row.op, ()))


def function(seed: int) -> Functions:
    lines = [line for line in functions.FUNCTIONS.splitlines() if not line.startswith("#")]
    found = [text.strip() for line in lines for text in line.split("; ") if text.strip()]
    return Functions(tuple(found[(seed * TOGETHER + place) * STEP % len(found)] for place in range(TOGETHER)))


def module(seed: int) -> Module:
    return Module(replace(modules.case(seed), scale=1.0, dtype="float32", training=False))


def learner(seed: int) -> Module:
    """A module of which some is frozen, compared in training too."""
    return Module(replace(modules.case(seed), scale=1.0, dtype="float32", training=True))


@dataclass(frozen=True)
class Old:
    row: Row
    version: int

    def wanted(self) -> list[Run]:
        return [(list(self.row.feeds().values()), [np.asarray(y) for y in self.row.wanted(self.version)])]

    def converted(self, verify: bool = True) -> bridge.Conversion:
        keras.utils.clear_session(free_memory=False)
        model = self.row.model(self.version)
        for value, array in zip(model.graph.output, self.wanted()[0][1], strict=True):
            kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            value.type.CopyFrom(onnx.helper.make_tensor_type_proto(kind, array.shape))
        return bridge.convert(model, verify=verify and bridge.Verify(inputs=self.row.feeds()))

    def fault(self, converted: bridge.Conversion, wanted: list[Run]) -> str:
        return _unlike(converted, wanted)

    def shown(self) -> str:
        return f"{self.row.op} of opset {self.version}: {self.row.values} | {self.row.nodes}"


@dataclass(frozen=True)
class Functions:
    """Functions of torch, at random numbers."""

    expressions: tuple[str, ...]

    def wanted(self) -> list[Run] | None:
        source, runs = self._made(), []
        for seed in range(len(DRAWS)):
            inputs = self._inputs(seed)
            with torch.no_grad():
                runs.append(([x.numpy() for x in inputs], [y.numpy() for y in source(*inputs)]))
        return (
            runs if all(np.isfinite(y).all() for _, ys in runs for y in ys if y.dtype.kind == "f") else None
        )

    def converted(self, verify: bool = True) -> bridge.Conversion:
        keras.utils.clear_session(free_memory=False)
        return bridge.convert(self._made(), self._inputs(0), verify=verify)

    def fault(self, converted: bridge.Conversion, wanted: list[Run]) -> str:
        return _unlike(converted, wanted)

    def shown(self) -> str:
        return "\n".join(self.expressions)

    def _made(self) -> functions.Together:
        return functions.Together(self.expressions).eval()

    def _inputs(self, seed: int) -> tuple[torch.Tensor, ...]:
        torch.manual_seed(seed)
        given = [functions.inputs()[name] for name in self._made().names]
        return tuple(torch.randn_like(x) if x.is_floating_point() else x for x in given)


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
                except RuntimeError:  # as where an axis has to be as long as it is
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
        return bridge.convert(
            source, inputs, dynamic_shapes=shapes, verify=verify and bridge.Verify(training=training)
        )

    def fault(self, converted: bridge.Conversion, wanted: Any) -> str:
        runs, known = wanted
        source, examples, _ = self._made()
        fault = _unlike(converted, runs) or changed(converted.weights, source)
        try:
            return fault or (learning.fault(converted, examples, known) if self.drawn.training else "")
        except Exception as error:
            return f"does not learn: {type(error).__name__}: {error}"

    def shown(self) -> str:
        return self.drawn.shown()

    def _made(self, seed: int = 0, longer: int = 0) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...], Any]:
        source, inputs, shapes = self.drawn.make(seed, longer)
        if self.drawn.training:
            chosen = random.Random(self.drawn.seed)
            for layer in source.layers:
                layer.requires_grad_(chosen.random() > FROZEN)
        return source, inputs, shapes


def _unlike(converted: bridge.Conversion, runs: Sequence[Run]) -> str:
    for inputs, outputs in runs:
        try:
            got = keras_call(converted.model)(inputs)
        except Exception as error:
            return f"does not run: {type(error).__name__}: {error}"
        if (error := worst_error(got, outputs)) > ALLOWED:
            return f"{error:.2g} off"
    return ""


MATERIALS = ("build/", "graph/", "layers", "plan/", "weights/")
GRAPH = Kind(graph, ("ops/", "passes/", "ops/", MATERIALS, "ops/"))
FUNCTION = Kind(function, tuple(f"frontend/torch/{start}" for start in "faspt"))
OLD = Kind(old, ("frontend/onnx/adapters", "frontend/onnx/adapters", "frontend/onnx/old"))
MODULE = Kind(module, ("frontend/torch/t", "frontend/torch/p", "ops/", "frontend/torch/l", MATERIALS))
LEARNER = Kind(
    learner, ("ops/", "weights/recipes", "frontend/torch/t", "weights/", "frontend/torch/p", "build/")
)
KINDS = (GRAPH, FUNCTION, OLD, GRAPH, FUNCTION, OLD, MODULE, LEARNER)  # in turn; the last two take longest
