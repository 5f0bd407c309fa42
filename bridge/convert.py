"""The whole path: export or load, simplify, plan, build, compare."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from bridge import disk
from bridge.errors import ExportError, MissingPackage, Mismatch, OutputError, SourceError
from bridge.passes import simplify
from bridge.report import Check, Report, Row, Variable
from bridge.weights import WeightMap

if TYPE_CHECKING:
    import keras

    from bridge.build import Built
    from bridge.plan import Plan
    from bridge.verify import Torch, Trial

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
        `bridge.open` finds the way back to torch. Nothing is left half-written."""
        disk.save(Path(path), self.model, self.weights, self.report)
        return Path(path)


def open_saved(path: str | os.PathLike[str]) -> Conversion:
    """What `Conversion.save` wrote: the model, its weight map and the report, as `bridge.open`."""
    _require_keras()
    return Conversion(*disk.load(Path(path)))


@dataclass
class Stopwatch:
    """Seconds spent in each room; tells `progress` when one is entered."""

    progress: Progress | None
    seconds: dict[str, float]

    @contextmanager
    def room(self, name: str) -> Iterator[None]:
        if self.progress is not None:
            self.progress(name)
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


@dataclass(frozen=True)
class Opened:
    """A source as ONNX IR, with the torch side where there is one."""

    model: ir.Model
    title: str
    torch: Torch | None = None
    notes: tuple[str, ...] = ()
    dynamic_shapes: Any = None  # as they were asked for
    retraceable: bool = False  # an nn.Module, which can be exported again in another precision


def convert(
    source: Any,
    args: tuple[Any, ...] | Any = None,
    kwargs: dict[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
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
        verify: compare torch, onnxruntime and Keras at several sizes.
        float64: also compare torch and Keras in double precision, which tells rounding from a wrong formula.
        training: also compare gradients, steps of SGD and BatchNorm's statistics (implies float64).
        progress: called with the name of each room as it is entered.

    Raises:
        SourceError, ExportError: the source cannot be read or exported.
        Unsupported: with every node that cannot be built.
        Mismatch: the proof failed; carries the report.
        MissingPackage: torch, onnxruntime or the Keras backend is needed and not installed.
    """
    _require_keras()
    watch = Stopwatch(progress, {})
    with watch.room("export"):
        opened = open_source(source, args, kwargs, dynamic_shapes)
        witness = opened.model.clone()
    planned = _planned(opened.model, watch)
    with watch.room("build"):
        from bridge.build import build

        built = build(planned, name=opened.title)
    report = _account(opened, planned, built, watch.seconds)
    if verify:
        with watch.room("compare"):
            report = _proved(report, opened, witness, planned, built)
            if float64 or training:
                report = _in_double(report, opened, planned, training)
        report = replace(report, seconds=watch.seconds)
        if not report.verified:
            report = replace(report, blame=report.blame or _failed_leg(report))
            raise Mismatch(f"{opened.title}: {report.blame}", report)
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
    watch = Stopwatch(progress, {})
    with watch.room("export"):
        opened = open_source(source, args, kwargs, dynamic_shapes)
    planned = _planned(opened.model, watch)
    from bridge.ops.catalogue import becomes

    return Report(
        opened.title,
        axes=_axes(opened.model),
        notes=opened.notes,
        rows=tuple(
            Row(step.path, step.node.op_type, ", ".join(becomes(step.node.op_type, step.builder.function)), "", 0)
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
    progress: Progress | None = None,
) -> Report:
    """Prove a `.keras` file, loaded in safe mode, against what it was made from.

    Raises `Mismatch` with the report if they differ, `SourceError` if one of them cannot be read.
    """
    _require_keras()
    from bridge import verify

    watch = Stopwatch(progress, {})
    model = disk.load_keras(Path(path))
    with watch.room("export"):
        opened = open_source(source, args, kwargs, dynamic_shapes)
        witness = opened.model.clone()
    with watch.room("simplify"):
        simplify(opened.model)
    _require_same_inputs(path, model, opened.model)
    with watch.room("compare"):
        sampler = verify.Sampler.of(opened.model, opened.torch.examples if opened.torch else None)
        tried, refused = verify.trials(sampler, verify.OnnxRuntime(witness), opened.torch)
        checks = tuple(verify.compare(model, tried))
    report = replace(
        _described(opened, model),
        notes=(*opened.notes, *refused),
        checks=checks,
        seconds=watch.seconds,
    )
    if not report.verified:
        report = replace(report, blame=_failed_leg(report))
        raise Mismatch(f"{path}: {report.blame}", report)
    return report


def _require_same_inputs(path: Any, model: keras.Model, source: ir.Model) -> None:
    ours = [tuple(tensor.shape) for tensor in model.inputs]
    theirs = [tuple(dim if isinstance(dim, int) else None for dim in value.shape) for value in source.graph.inputs]
    if ours != theirs:
        raise SourceError(f"{path} takes inputs of shapes {ours}, its source {theirs}: it was not made from it")


def _require_keras() -> None:
    """Keras with its backend, before anything that takes long."""
    try:
        import keras
        import keras.ops  # noqa: F401
    except ImportError as error:
        backend = os.environ.get("KERAS_BACKEND", "tensorflow")
        raise MissingPackage(
            f"Keras needs its backend {error.name}, which is not installed: pip install "
            f"'onnx-keras-bridge[{backend}]', or set KERAS_BACKEND to one that is (tensorflow, jax, torch)"
        ) from error


def open_source(source: Any, args: Any = None, kwargs: dict[str, Any] | None = None, dynamic_shapes: Any = None) -> Opened:
    """Whatever `convert` takes, as ONNX IR."""
    if isinstance(source, str | os.PathLike) and Path(source).suffix == ".pt2":
        from bridge.export import load_program

        source = load_program(Path(source))
    if isinstance(source, str | os.PathLike | ir.Model) or hasattr(source, "graph") and hasattr(source, "opset_import"):
        from bridge.load import load

        model = load(source)
        title = Path(source).stem if isinstance(source, str | os.PathLike) else model.graph.name or "model"
        return Opened(model, title)
    return _open_torch(source, args, kwargs, dynamic_shapes)


def _open_torch(source: Any, args: Any, kwargs: dict[str, Any] | None, dynamic_shapes: Any) -> Opened:
    try:
        import torch
    except ImportError as error:
        raise MissingPackage("converting a torch model needs torch: pip install 'onnx-keras-bridge[torch]'") from error
    from bridge.export import export_module, export_program
    from bridge.verify import Torch

    if isinstance(source, torch.export.ExportedProgram):
        exported = export_program(source)
        example_args, example_kwargs = source.example_inputs
        module = source.module()
        module.training = False  # an exported program has one mode, and refuses eval()
        return Opened(exported.model, "program", Torch(module, example_args, example_kwargs), exported.notes)
    if not isinstance(source, torch.nn.Module):
        raise SourceError(
            f"cannot convert a {type(source).__name__}; give an nn.Module with args, an ExportedProgram, an .onnx or "
            f".pt2 file, or an ONNX model"
        )
    if args is None:
        raise SourceError(f"{type(source).__name__} needs example inputs: convert(module, args)")
    args = tuple(args) if isinstance(args, tuple | list) else (args,)
    title = type(source).__name__
    witness = Torch(source, args, kwargs)
    try:
        witness(witness.examples)
    except Exception as error:
        reason = " ".join(str(error).split())[:240]
        raise ExportError(f"{title} does not run on the args given: {type(error).__name__}: {reason}") from error
    exported = export_module(source, args, kwargs, dynamic_shapes)
    return Opened(exported.model, title, witness, exported.notes, dynamic_shapes, True)


def _planned(model: ir.Model, watch: Stopwatch) -> Plan:
    with watch.room("simplify"):
        simplify(model)
    with watch.room("plan"):
        import bridge.ops  # noqa: F401 - registers the operators
        from bridge.plan import plan

        return plan(model)


def _axes(model: ir.Model) -> tuple[str, ...]:
    """Of every input: its axes, free ones by name, fixed ones by size."""
    return tuple(
        f"{value.name}: ({', '.join(f'{dim} free' if not isinstance(dim, int) else f'{dim} fixed' for dim in value.shape)})"
        for value in model.graph.inputs
    )


def _account(opened: Opened, planned: Plan, built: Built, seconds: dict[str, float]) -> Report:
    return replace(
        _described(opened, built.model),
        rows=tuple(Row(made.path, made.op, made.layer, made.name, made.parameters) for made in built.made),
        variables=tuple(
            Variable(e.variable.path, e.weight.dims, e.variable.trainable, str(e.recipe), not e.recipe.invertible)
            for e in built.weights
        ),
        transposes=built.transposes,
        seconds=seconds,
    )


def _described(opened: Opened, model: keras.Model) -> Report:
    """What can be said of any Keras model beside its source."""
    import keras

    source = opened.model.meta.get("source")
    parameters = None
    if opened.torch is not None and source is not None:
        parameters = sum(
            value.size
            for name, value in source.values.items()
            if source.trainable[name] and name not in source.aliases
        )
    return Report(
        source=opened.title,
        backend=keras.backend.backend(),
        versions={name: version(name) for name in ("onnx", "onnx-ir", "keras", "numpy")},
        axes=_axes(opened.model),
        notes=opened.notes,
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


def _proved(
    report: Report, opened: Opened, witness: ir.Model, planned: Plan, built: Built
) -> Report:
    from bridge import verify

    sampler = verify.Sampler.of(opened.model, opened.torch.examples if opened.torch else None)
    tried, refused = verify.trials(sampler, verify.OnnxRuntime(witness), opened.torch)
    checks = list(verify.compare(built.model, tried))
    errors = verify.node_errors(planned, built, tried[0].inputs)
    rows = tuple(
        replace(row, error=errors.get(made.node)) for row, made in zip(report.rows, built.made, strict=True)
    )
    report = replace(report, checks=tuple(checks), rows=rows, notes=(*report.notes, *refused))
    return report if report.verified else replace(report, blame=_blame(report, planned, errors))


def _in_double(report: Report, opened: Opened, planned: Plan, training: bool) -> Report:
    """The whole path once more in float64: exported, built and compared; and the training compared, if asked."""
    if not opened.retraceable:
        raise BridgeError("comparing in float64, or in training, needs the nn.Module itself: convert(module, args)")
    from bridge import verify
    from bridge.build import build

    double = opened.torch.double()
    again = _open_torch(double.module, *double.arguments, opened.dynamic_shapes)
    built = build(_planned(again.model, Stopwatch(None, {})))
    sampler = verify.Sampler.of(again.model, double.examples)
    checks = list(verify.compare_double(built.model, double, sampler))
    if not training:
        return replace(report, checks=(*report.checks, *checks))
    from bridge.training import parity, single_precision

    found = parity(built, double, sampler)
    single = opened.torch.copy()
    floor = single_precision(build(planned), single, verify.Sampler.of(planned.model, single.examples), found.wanted)
    return replace(
        report,
        checks=(*report.checks, *checks, *found.checks, floor),
        gradients=found.gradients,
        notes=(*report.notes, *found.notes),
    )


def _blame(report: Report, planned: Plan, errors: dict[ir.Node, float]) -> str:
    """The leg that failed, and the first node that departs on it."""
    failed = next(check for check in report.checks if not check.passed)
    text = _failed_leg(report)
    first = next((step for step in planned.steps if errors.get(step.node, 0.0) > failed.limit), None)
    if first is not None:
        text += f"; first at {first.node.op_type} {first.path or first.node.name} (error {errors[first.node]:.2g})"
    return text


def _failed_leg(report: Report) -> str:
    failed = next(check for check in report.checks if not check.passed)
    return f"{failed.leg} differ by {failed.error:.2g} (limit {failed.limit:.0e}) at {failed.sizes}"
