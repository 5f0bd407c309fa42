"""Whether a Keras model gives what onnxruntime gives for the graph that it was made from."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import keras
import numpy as np
import onnx
import onnx_ir as ir

from benchmarks.fuzz.draft import session
from bridge.errors import BridgeError, NotRun
from bridge.frontend.onnx.double import in_double
from bridge.frontend.onnx.load import load
from bridge.frontend.source import load_source
from bridge.passes import simplify
from bridge.verification.doubt.steps import Steps
from bridge.verification.doubt.sure import FORMULAS, Alone, Sure, elements_sure
from bridge.verification.inputs.requirements import Requirements
from bridge.verification.inputs.sizes import solve
from bridge.verification.metrics import Arrays, cast, elements_at, relative_error, worst_error
from bridge.verification.precision import precision
from bridge.verification.reference.as_given import in_float64
from bridge.verification.trials import Run, Shapes, Trial

LIMITS = {"float64": 1e-6, "float32": 2e-5, "float16": 1e-2}
NUDGES = 4  # inputs whose last bits are others
ROUNDING = 30  # times that of the source, which a model may be off
Feed = dict[str, np.ndarray]
Ran = tuple[Feed, Arrays]  # inputs and outputs


def reference(model: onnx.ModelProto, feed: Feed) -> Ran | None:
    """The inputs and what onnxruntime gives; None where it does not run."""
    try:
        results = session(model).run(
            None, {k: np.ascontiguousarray(v) if v.ndim else v for k, v in feed.items()}
        )
    except Exception:
        return None
    return feed, [np.asarray(result) for result in results]


def remembered(call: Run) -> Run:
    """`call`, that runs once on the same arrays, which have to live as long."""
    known: dict[tuple[int, ...], Arrays] = {}

    def run(arrays: Arrays) -> Arrays:
        key = tuple(map(id, arrays))
        if key not in known:
            known[key] = call(arrays)
        return known[key]

    return run


def compared(call: Run, feed: Feed, want: Arrays) -> str:
    """What differs, or nothing."""
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feed.items())
    try:
        got = call(list(feed.values()))
    except Exception as error:
        return f"Keras does not run at {shapes}: {' '.join(str(error).split())[:200]}"
    for index, (a, b) in enumerate(zip(got, want, strict=True)):
        if not _typed(a, b) or a.shape != b.shape:
            return f"output {index} is {a.dtype}{list(a.shape)}, not {b.dtype}{list(b.shape)} at {shapes}"
        error = relative_error(a, b)
        if error > LIMITS.get(b.dtype.name, 0):
            return f"output {index} off by {error:.2g} at {shapes}"
    return ""


def _typed(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether they are of one type; of another width where the backend has not all."""
    kinds = [array.dtype.kind.replace("u", "i") for array in (a, b)]
    return a.dtype == b.dtype if keras.backend.backend() == "tensorflow" else kinds[0] == kinds[1]


def unsure(model: onnx.ModelProto, call: Run, feed: Feed, want: Arrays) -> bool:
    """Whether they are equal where the source is sure of what it gives, but for its own rounding; or nothing is to be
    compared, at sizes at which it would have other axes, or one on which no window fits."""
    graph = simplify(load(model)).graph
    sizes = solve(graph.inputs, list(feed.values()))
    if Shapes.of(graph).apart(sizes, want) is not None:
        return True
    try:
        got = call(list(feed.values()))
    except NotRun:  # onnxruntime does at sizes that ONNX does not allow
        return not Requirements.of(graph, list(sizes)).allow(np.array([list(sizes.values())]))[0]
    known = known_of(model, feed, want)
    if known is None:
        return False
    limit = ROUNDING * _rounding(model, feed, want, known)
    if any(node.op_type in FORMULAS for node in model.graph.node):  # that decides nothing of those within
        limit = max(limit, known.limit)
    some = [index for index, places in enumerate(known.decided) if not places.size or places.any()]
    got, want, decided = ([arrays[index] for index in some] for arrays in (got, want, known.decided))
    pairs = zip(elements_at(got, decided), elements_at(want, decided), strict=True)
    return all(
        _typed(a, b) and relative_error(a, b) <= max(LIMITS.get(b.dtype.name, 0), limit) for a, b in pairs
    )


def known_of(model: onnx.ModelProto, feed: Feed, want: Arrays) -> Sure | None:
    """Of what the source is sure."""
    source = load_source(model)
    dtype = precision(source.model.graph)
    return elements_sure(Alone(source), Trial({}, list(feed.values()), None, want, dtype=dtype))


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Bit for bit, but for the bits of NaN."""
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _rounding(model: onnx.ModelProto, feed: Feed, want: Arrays, known: Sure) -> float:
    """How far the source is off where it is sure: in float64, in onnxruntime with the last bits of the inputs moved,
    and node by node, as in the whole it rounds not every half between two nodes. Found apart from the proof, which has
    limits of its own."""
    errors = [
        worst_error(elements_at(other, known.decided), elements_at(want, known.decided))
        for other in _others(model, feed)
        if [x.shape for x in other] == [x.shape for x in want]
    ]
    return max((error for error in errors if math.isfinite(error)), default=0.0)


def _others(model: onnx.ModelProto, feed: Feed) -> Iterator[Arrays]:
    with contextlib.suppress(BridgeError, NotRun):  # where it does not run in float64
        yield in_float64(in_double(ir.from_proto(model)))(cast(list(feed.values()), "float64"))
    with contextlib.suppress(BridgeError, NotRun):  # where a node does not run alone
        yield Steps(ir.from_proto(model)).run(list(feed.values()), lambda ran: ran.made)
    draw = np.random.default_rng(0)
    for _ in range(NUDGES):
        run = reference(model, {name: _nudged(array, draw) for name, array in feed.items()})
        if run is not None:
            yield run[1]


def _nudged(array: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    if array.dtype.kind != "f":
        return array
    return np.asarray(array * (1 + np.finfo(array.dtype).eps * draw.integers(-1, 2, array.shape))).astype(
        array.dtype
    )
