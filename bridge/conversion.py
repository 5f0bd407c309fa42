"""The whole path: export or load, simplify, plan, build, compare."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir

from bridge import saving
from bridge.errors import BridgeError, MismatchError, MissingPackageError, SourceError
from bridge.frontend.asked import Asked
from bridge.frontend.source import Source, as_ir, load_source
from bridge.graph.reduce import reduce
from bridge.passes import simplify
from bridge.report.report import Report, Row
from bridge.summary import account, axes, describe
from bridge.weights.weight_map import WeightMap

if TYPE_CHECKING:
    import keras

    from bridge.plan.planner import Plan

ROOMS = ("export", "simplify", "plan", "build", "compare")
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Conversion:
    """A finished conversion: the Keras model, the way its weights came, and the proof."""

    model: keras.Model
    weights: WeightMap
    report: Report

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the model as one `.keras` file, which plain Keras loads, and the weight map beside it, from which
        `bridge.load` finds the way back to torch. Nothing is left half-written."""
        saving.save(Path(path), self.model, self.weights, self.report)
        return Path(path)


def load_saved(path: str | os.PathLike[str]) -> Conversion:
    """What `Conversion.save` wrote: the model, its weight map and the report, as `bridge.load`."""
    _require_keras()
    return Conversion(*saving.load(Path(path)))


@dataclass
class Stopwatch:
    """Seconds spent in each room; tells `progress` when one is entered. What goes wrong there unexpectedly becomes
    one of our errors: the source's fault where nothing runs it."""

    progress: Progress | None
    seconds: dict[str, float]
    source: Any = None
    opened: Source | None = None  # the same, as soon as it is read

    @contextmanager
    def room(self, name: str) -> Iterator[None]:
        if self.progress is not None:
            self.progress(name)
        start = time.perf_counter()
        try:
            yield
        except BridgeError:
            raise
        except Exception as error:
            raise self._blamed(name, error) from error
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def _blamed(self, room: str, error: Exception) -> BridgeError:
        from bridge.faults import fault
        from bridge.verification.legal import why_never_run

        reason = why_never_run(self.source, self.opened)
        return fault(room, error) if reason is None else SourceError(reason)


def convert(
    source: Any,
    args: tuple[Any, ...] | Any = None,
    kwargs: dict[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    inputs: Any = None,
    sizes: Mapping[str, Any] | None = None,
    seed: int = 0,
    channels_last: bool = False,
    verify: bool = True,
    float64: bool = False,
    training: bool = False,
    progress: Progress | None = None,
) -> Conversion:
    """Convert a trained model to Keras and prove the result.

    Args:
        source: an `nn.Module` (with `args`), an `ExportedProgram`, a path to an `.onnx` or `.pt2` file, an
            `onnx.ModelProto` or an `onnx_ir.Model`.
        args: the module's example inputs; a single tensor stands for a tuple of one.
        kwargs: keyword inputs of the module.
        dynamic_shapes: as `torch.onnx.export` takes them. Without them the batch axis is free wherever torch allows.
        inputs: what the proof runs first, where the source has no example inputs or other ones are wanted: arrays by
            name or in order, the path of an `.npz` or `.npy` file, or a function that gives such arrays. A function
            of one argument is called for every choice of sizes, `{"batch": 3, "time": 7}`.
        sizes: of free axes, those that the proof is to try: `{"height": (320, 640)}`. Otherwise it finds legal ones.
        seed: of all inputs that are drawn; the report records it.
        channels_last: give the Keras model image inputs and outputs with their channels last (N H W C), where torch
            has them first; the report's notes say which. Otherwise its signature is torch's own.
        verify: compare torch, onnxruntime and Keras at several sizes.
        float64: also compare torch and Keras in double precision, which tells rounding from a wrong formula. Done in
            any case where a module amplifies rounding so far that float32 cannot tell.
        training: also compare gradients, steps of SGD and BatchNorm's statistics (implies float64).
        progress: called with the name of each room as it is entered.

    Raises:
        SourceError, ExportError: the source cannot be read or exported; `inputs` or `sizes` do not fit it.
        UnsupportedError: with every node that cannot be built.
        MismatchError: the proof failed; carries the report.
        MissingPackageError: torch, onnxruntime or the Keras backend is needed and not installed.
    """
    _require_keras()
    watch = Stopwatch(progress, {}, source)
    asked = Asked.of(inputs, sizes, seed)
    with watch.room("export"):
        watch.opened = opened = load_source(source, args, kwargs, dynamic_shapes, asked)
    planned = _planned(opened.model, watch, channels_last)
    _settle(opened, planned.model, watch)
    from bridge.build.builder import build, raised_recursion_limit

    with watch.room("build"), raised_recursion_limit(planned):
        built = build(planned, name=opened.title)
    report = account(opened, built, watch.seconds)
    report = replace(report, notes=(*report.notes, *_signature_notes(planned)))
    if verify:
        with watch.room("compare"), raised_recursion_limit(planned):
            from bridge.verification.verify import failed_leg, in_double_too, prove, prove_double

            report = prove(report, opened, planned, built)
            if float64 or training:
                report = prove_double(report, opened, planned, training)
            elif report.verified and (report.amplifies or report.dtype != "float32"):
                report = in_double_too(report, opened, planned)
        report = replace(report, seconds=watch.seconds)
        if not report.verified:
            report = replace(report, blame=report.blame or "; ".join((failed_leg(report), *opened.departs)))
            raise MismatchError(f"{opened.title}: {report.blame}", report)
    return Conversion(built.model, built.weights, report)


def inspect(
    source: Any,
    args: Any = None,
    kwargs: dict[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    progress: Progress | None = None,
) -> Report:
    """The plan as a report: what becomes what, and every refusal; builds nothing."""
    _require_keras()
    watch = Stopwatch(progress, {}, source)
    with watch.room("export"):
        watch.opened = opened = load_source(source, args, kwargs, dynamic_shapes)
    planned = _planned(opened.model, watch)
    _settle(opened, planned.model, watch)
    from bridge.ops.catalogue import becomes

    return Report(
        opened.title,
        axes=axes(opened.model),
        notes=opened.notes,
        rows=tuple(
            Row(
                step.path,
                step.node.op_type,
                ", ".join(becomes(step.node.op_type, step.operator.function)),
                "",
                0,
            )
            for step in planned.steps
        ),
        refusals=tuple(map(str, planned.refusals)),
        seconds=watch.seconds,
    )


def verify_saved(
    path: str | os.PathLike[str],
    source: Any,
    args: Any = None,
    kwargs: dict[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    inputs: Any = None,
    sizes: Mapping[str, Any] | None = None,
    seed: int = 0,
    training: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Prove a `.keras` file, loaded in safe mode, against what it was made from; as `bridge.verify`.

    `training` also compares its gradients with torch's, mapped through the weight map beside the file; `inputs`,
    `sizes` and `seed` are those of `convert`.
    Raises `MismatchError` with the report if they differ, `SourceError` if one of them cannot be read.
    """
    _require_keras()
    from bridge.verification import outputs
    from bridge.verification.doubt import Compared
    from bridge.verification.runners import keras_call
    from bridge.verification.verify import failed_leg, gradients_of, judged, trials

    watch = Stopwatch(progress, {}, source)
    asked = Asked.of(inputs, sizes, seed)
    model = saving.load_keras(Path(path))
    with watch.room("export"):
        watch.opened = opened = load_source(source, args, kwargs, dynamic_shapes, asked)
    with watch.room("simplify"):
        simple = simplify(opened.model)
    _require_same_inputs(path, model, simple)
    _require_room(path, model)
    _settle(opened, simple, watch)
    with watch.room("compare"):
        tried, refused, _ = trials(opened, simple, odd=True)
        call = keras_call(model)
        report = describe(opened, model)
        report = replace(report, notes=(*report.notes, *refused))
        report = judged(report, list(outputs.checks(call, tried)), tried, opened, Compared(call))
        if training:
            report = replace(report, checks=(*report.checks, gradients_of(load_saved(path), opened, simple)))
    report = replace(report, seconds=watch.seconds)
    if not report.verified:
        report = replace(report, blame=failed_leg(report))
        raise MismatchError(f"{path}: {report.blame}", report)
    return report


def smallest(
    source: Any, args: Any = None, kwargs: dict[str, Any] | None = None, *, dynamic_shapes: Any = None
) -> onnx.ModelProto:
    """The smallest graph whose conversion fails as that of `source` does: for the report of a fault.

    Raises `SourceError` where the graph of `source` converts and is proved.
    """
    given = load_source(source, args, kwargs, dynamic_shapes).given
    model = given if isinstance(given, onnx.ModelProto) else ir.to_proto(as_ir(given))
    failure = _failure(model)
    if failure is None:
        raise SourceError("the graph converts and is proved equal: there is nothing to make smaller")
    return reduce(model, lambda smaller: _failure(smaller) == failure)


def _failure(model: onnx.ModelProto) -> tuple[type, type] | None:
    """What the conversion of `model` ends in, and the cause of that."""
    try:
        convert(model)
    except BridgeError as error:
        return type(error), type(error.__cause__)
    return None


def _require_same_inputs(path: Any, model: keras.Model, source: ir.Model) -> None:
    ours = [tuple(tensor.shape) for tensor in model.inputs]
    theirs = [
        tuple(dim if isinstance(dim, int) else None for dim in value.shape) for value in source.graph.inputs
    ]
    if ours != theirs:
        raise SourceError(
            f"{path} takes inputs of shapes {ours}, its source {theirs}: it was not made from it"
        )


def _require_room(path: Any, model: keras.Model) -> None:
    """Raise `SourceError` if the model has a value of more memory than a source may ask for."""
    from bridge.keras_compat import largest_bytes
    from bridge.passes.bounds import MAX_VALUE_BYTES

    size = largest_bytes(model)
    if size > MAX_VALUE_BYTES:
        raise SourceError(
            f"{path}: a layer of it gives {size / (1 << 30):,.0f} GiB or more; values of more than "
            f"{MAX_VALUE_BYTES >> 30} GiB are not computed"
        )


def _require_keras() -> None:
    """Keras with its backend, before anything that takes long."""
    try:
        import keras
        import keras.ops  # noqa: F401
    except ImportError as error:
        backend = os.environ.get("KERAS_BACKEND", "tensorflow")
        raise MissingPackageError(
            f"Keras needs its backend {error.name}, which is not installed: pip install "
            f"'onnx-keras-bridge[{backend}]', or set KERAS_BACKEND to one that is (tensorflow, jax, torch)"
        ) from error


def _signature_notes(planned: Plan) -> tuple[str, ...]:
    """The inputs and outputs of the Keras model whose axes are in another order than torch's."""
    graph = planned.model.graph
    sides = (("input", graph.inputs), ("output", graph.outputs))
    moved = (
        (side, value.name, planned.signature_perms.get(value)) for side, values in sides for value in values
    )
    return tuple(
        f"{side} {name} has its channels last: torch's axes {perm}" for side, name, perm in moved if perm
    )


def _settle(opened: Source, simple: ir.Model, watch: Stopwatch) -> None:
    """What sizes the free axes may have."""
    with watch.room("compare"):
        from bridge.verification.ranges import settle

        settle(opened, simple)


def _planned(model: ir.Model, watch: Stopwatch, channels_last: bool = False) -> Plan:
    with watch.room("simplify"):
        simple = simplify(model)
    with watch.room("plan"):
        import bridge.ops  # noqa: F401 - registers the operators
        from bridge.plan.planner import plan

        return plan(simple, channels_last=channels_last)
