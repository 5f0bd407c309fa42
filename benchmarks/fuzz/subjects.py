"""What is converted while `bridge` is switched wrong, each kind with the files in which that is done: random graphs,
operators as old opsets had them, torch's functions, torch modules, and torch modules that learn."""

from __future__ import annotations

import itertools
import random
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import keras
import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import torch

import bridge
from benchmarks import functions
from benchmarks.fuzz import forms, graphs, learning, modules
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
PLAIN: dict[str, Any] = {"scale": 1.0, "dtype": "float32", "form": forms.Form()}  # of modules
STEP = 37  # between one row of a table and the next that is taken, so that a few are of all sorts
LEAP = 50  # between the first function of a module and that of the next
LAYERS = [  # kind of input, layers
    tuple(line.split(": ", 1))
    for line in """\
line: nn.Linear(8, 6); nn.BatchNorm1d(6, momentum=0.3); nn.Dropout(0.4)
image: nn.Conv2d(4, 4, 3, bias=False); nn.BatchNorm2d(4, momentum=0.2, eps=1e-3); nn.ReLU(); nn.Dropout2d(0.2)
sequence: first(nn.LSTM(8, 8, num_layers=2, dropout=0.3, batch_first=True))
sequence: first(nn.GRU(8, 8, num_layers=2, dropout=0.2, bidirectional=True, batch_first=True))
sequence: attend(nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True))
sequence: nn.TransformerEncoderLayer(8, 2, 12, dropout=0.2, batch_first=True)
sequence: nn.AlphaDropout(0.1); nn.SELU(); nn.Linear(8, 4)
image: nn.FeatureAlphaDropout(0.2); nn.Conv2d(4, 4, 1); nn.Dropout(0.1)
tokens: nn.Embedding(11, 8, padding_idx=3); nn.Dropout1d(0.3); turned(nn.BatchNorm1d(8, momentum=0.5, affine=False))
image: nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3)); nn.BatchNorm2d(4, affine=False)
line: nn.utils.parametrizations.weight_norm(nn.Linear(8, 6)); nn.PReLU(6); nn.Dropout(0.1)
image: nn.InstanceNorm2d(4, affine=True, track_running_stats=True, momentum=0.3); nn.Conv2d(4, 2, 3)
line: twins(nn.Linear(8, 8), nn.Linear(8, 8)); still(nn.Linear(8, 8)); frozen(nn.BatchNorm1d(8))
sequence: first(nn.RNN(8, 8, num_layers=2, dropout=0.4, nonlinearity='relu', batch_first=True)); nn.LayerNorm(8)
volume: nn.Conv3d(3, 4, 2); nn.BatchNorm3d(4, momentum=0.05); nn.Dropout3d(0.2)
tokens: nn.EmbeddingBag(11, 8, mode='mean'); nn.Dropout(0.3); nn.LayerNorm(8)""".splitlines()
]
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


def old(seed: int) -> Operator:
    """An operator of the tests' table whose form is another now."""
    runs = [(row, version) for row in ROWS for version in row.versions if _is_adapted(row, version)]
    return Operator(*runs[seed * STEP % len(runs)])


def _is_adapted(row: Row, version: int) -> bool:
    return not row.refused and any(version < below for below, _ in ADAPTERS.get(row.op, ()))


def new(seed: int) -> Operator:
    """An operator of the tests' table in its newest form there, half of them with weights."""
    rows = [row for row in ROWS if not row.refused]
    row = rows[seed * STEP % len(rows)]
    return Operator(row, row.versions[-1], weights=seed % 2 == 0)


def function(seed: int) -> Functions:
    lines = [line for line in functions.FUNCTIONS.splitlines() if not line.startswith("#")]
    found = [text.strip() for line in lines for text in line.split("; ") if text.strip()]
    one_by_one = (Functions((found[place * STEP % len(found)],)) for place in itertools.count(seed * LEAP))
    chosen = itertools.islice((f for f in one_by_one if f.wanted() is not None), TOGETHER)
    return Functions(tuple(expression for f in chosen for expression in f.expressions))


def trained(seed: int) -> Module:
    """A few layers of the table, as they learn."""
    kind, text = LAYERS[seed % len(LAYERS)]
    layers = tuple(("", code, False) for code in text.split("; "))
    return Module(modules.Module(seed, kind, layers, scale=1.0, free=None, training=True))


def module(seed: int) -> Module:
    return Module(replace(modules.case(seed), **PLAIN, training=False))


def learner(seed: int) -> Module:
    """A module of which some is frozen, compared in training too."""
    return Module(replace(modules.case(seed), **PLAIN, training=True))


@dataclass(frozen=True)
class Operator:
    """One of ONNX, in the form of a version; with `weights` all its inputs of numbers but the first are these."""

    row: Row
    version: int
    weights: bool = False

    def wanted(self) -> list[Run] | None:
        try:
            outputs = self.row.wanted(self.version)
        except Exception:  # of several runtimes, none of which has it
            return None
        return [(list(self._feeds().values()), [np.asarray(y) for y in outputs])]

    def converted(self, verify: bool = True) -> bridge.Conversion:
        keras.utils.clear_session(free_memory=False)
        model, feeds = self.row.model(self.version), self._feeds()
        for value, array in zip(model.graph.output, self.row.wanted(self.version), strict=True):
            kind = onnx.helper.np_dtype_to_tensor_dtype(np.asarray(array).dtype)
            value.type.CopyFrom(onnx.helper.make_tensor_type_proto(kind, np.shape(array)))
        for name, array in self.row.feeds().items():
            if name not in feeds:
                model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
                model.graph.input.remove(next(x for x in model.graph.input if x.name == name))
        return bridge.convert(model, verify=verify and bridge.Verify(inputs=feeds))

    def fault(self, converted: bridge.Conversion, wanted: list[Run]) -> str:
        return _unlike(converted, wanted)

    def shown(self) -> str:
        weights = " with weights" if self.weights else ""
        return f"{self.row.op} of opset {self.version}{weights}: {self.row.values} | {self.row.nodes}"

    def _feeds(self) -> dict[str, np.ndarray]:
        first, *others = self.row.feeds().items()
        return dict([first, *((name, x) for name, x in others if not self.weights or x.dtype.kind != "f")])


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
        source, inputs, _, shapes = self.drawn.make(seed, longer)
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
FAMILIES = "act att conv dr el f ind li n po q rec red resi sam sha"  # of builders
BUILDERS = tuple(f"ops/{start}" for start in FAMILIES.split())
LEARN = (
    "ops/dr",
    "ops/norm",
    "ops/rec",
    "ops/att",
    *(f"frontend/torch/{x}" for x in ("own", "patches", "grad", "n")),
)
GRAPH = Kind(graph, ("ops/", "passes/", "ops/", MATERIALS, "ops/"))
FUNCTION = Kind(function, tuple(f"frontend/torch/{start}" for start in "faspt"))
OLD = Kind(
    old, ("frontend/onnx/adapters", "frontend/onnx/adapters", "frontend/onnx/adapters", "frontend/onnx/old")
)
WRITTEN = tuple(f"frontend/onnx/{start}" for start in ("at", "def", "int", "low", "q"))  # as other operators
NEW = Kind(new, (BUILDERS, BUILDERS, WRITTEN, BUILDERS, BUILDERS, "passes/", BUILDERS, MATERIALS))
MODULE = Kind(module, ("frontend/torch/t", "frontend/torch/p", "ops/", "frontend/torch/l", MATERIALS))
LEARNER = Kind(
    learner, ("ops/", "weights/recipes", "frontend/torch/t", "weights/", "frontend/torch/p", "build/")
)
TRAINED = Kind(trained, (LEARN, "weights/", LEARN, "build/", LEARN, "passes/"))
# In turn; the last ones take longest
KINDS = (NEW, OLD, NEW) * 6 + (GRAPH, TRAINED, FUNCTION, MODULE, LEARNER)
