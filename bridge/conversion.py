"""The whole path: export or load, simplify, plan, build, compare."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from bridge import saving
from bridge.converted import Conversion
from bridge.errors import MismatchError, MissingPackageError, SourceError, installing
from bridge.frontend.asked import Asked
from bridge.frontend.source import Source, load_source
from bridge.graph import structure
from bridge.passes import simplify
from bridge.report.report import Report
from bridge.stages import Progress, Stopwatch
from bridge.summary import summarize, summarize_model, summarize_plan
from bridge.verification.options import BACKENDS, Verify
from bridge.weights.blueprint import Blueprint, draw
from bridge.weights.weight_map import detach_from_source

if TYPE_CHECKING:
    from bridge.build.assembly import Built
    from bridge.ops.contract import Plan
    from bridge.verification.checks import Verification

Arguments = tuple[object, object, Mapping[str, object] | None, object]  # source, args, kwargs, dynamic_shapes


def load_saved(path: str | os.PathLike[str]) -> Conversion:
    """Read what `Conversion.save` wrote; as `bridge.load`.

    Args:
        path: of the `.keras` file, with its weight map beside it.

    Returns:
        The model, its weight map and the report of its conversion.

    Raises:
        SourceError: a file is missing, is not what it should be, or was written by another version of `bridge`.
        WeightsError: the weight map belongs to another model.
        MissingPackageError: the Keras backend is not installed.

    Examples:
        >>> bridge.load("model.keras").weights.to_torch()
    """
    require_keras()
    return Conversion(*saving.load(Path(path)))


def convert(
    source: object,
    args: object = None,
    kwargs: Mapping[str, object] | None = None,
    *,
    dynamic_shapes: object = None,
    channels_last: bool = False,
    dequantize: bool = False,
    stateful: bool = False,
    batch_size: int | None = None,
    verify: bool | Verify = True,
    progress: Progress | None = None,
) -> Conversion:
    """Convert a trained model to Keras and prove the result.

    Args:
        source: an `nn.Module` (with `args`), an `ExportedProgram`, a path to an `.onnx` or `.pt2` file, an
            `onnx.ModelProto` or an `onnx_ir.Model`.
        args: the module's example inputs; a single tensor stands for a tuple of one.
        kwargs: keyword inputs of the module.
        dynamic_shapes: as `torch.onnx.export` takes them. Without them the batch axis is free wherever torch allows.
        channels_last: give the Keras model image inputs and outputs with their channels last (N H W C), where torch
            has them first; the report's notes say which. Otherwise its signature is torch's own.
        dequantize: make of a file that computes with integers the model of numbers that it stands for, which can be
            trained. The proof is about that model; the report's notes say how far it is from the integers.
        stateful: a model that takes pieces of a sequence, of any length, and goes on from the state of the last call
            until `bridge.reset_states(model)`. It is proved to give what the source gives for the whole sequence.
        batch_size: of how many sequences at once a stateful model keeps the state; otherwise as many as the example
            has, or 1.
        verify: compare torch, onnxruntime and Keras at several sizes; a `Verify` says at which inputs and what else.
        progress: called with the name of each stage as it is entered.

    Returns:
        The Keras model, the map of its weights and the report.

    Raises:
        SourceError, ExportError: the source cannot be read or exported; what `verify` asks for does not fit it.
        UnsupportedError: with every node that cannot be built.
        MismatchError: the proof failed; carries the report, and the first node that departs by itself.
        MissingPackageError: torch, onnxruntime or the Keras backend is needed and not installed.

    Examples:
        >>> result = bridge.convert(module, torch.randn(1, 3, 224, 224), verify=bridge.Verify(float64=True))
        >>> print(result.report)
    """
    given, watch = (source, args, kwargs, dynamic_shapes), Stopwatch(progress, source)
    form = Form(channels_last, dequantize, stateful, batch_size)
    made = attempt(watch, given, Verify.of(verify), form)
    report = made.report(watch)
    if made.found is not None:
        _require_verified(made.opened.title, report, made.found)
    return Conversion(made.built.model, detach_from_source(made.built.weights), report, made.blueprint())


@dataclass(frozen=True)
class Form:
    """What kind of model is made of a source, as `convert` takes it."""

    channels_last: bool = False
    dequantize: bool = False
    stateful: bool = False
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if self.batch_size is not None and not (self.stateful and self.batch_size > 0):
            raise SourceError(
                f"batch_size={self.batch_size}: a positive number of sequences, beside stateful=True alone"
            )


@dataclass(frozen=True)
class Attempt:
    """What a conversion made of its source, and what comparing the two found, whatever that is."""

    opened: Source
    planned: Plan
    built: Built
    found: Verification | None

    def blueprint(self) -> Blueprint:
        """The graph that was built, without the numbers of the weights."""
        places = self.opened.outputs or structure.listed(len(self.planned.graph.outputs))
        outputs = [structure.name(place) for place in places]
        names = [x.name for x in self.built.model.inputs]
        return draw(self.planned.model, names, outputs, self.planned.signature_perms)

    def report(self, watch: Stopwatch) -> Report:
        return summarize(self.opened, self.planned, self.built, self.found, watch.told)


def attempt(watch: Stopwatch, given: Arguments, options: Verify | None, form: Form | None = None) -> Attempt:
    """The whole path, compared as `options` say; raises as `convert` does, but for `MismatchError`."""
    require_keras()
    form = form or Form()
    if form.stateful and options is not None and options.training:
        raise SourceError(
            "training is not compared with a model that keeps its state: convert without stateful, which has the same "
            "weights and is trained as torch trains"
        )
    opened = _opened(watch, given, options, form)
    planned = _planned(opened, watch, form.channels_last)
    from bridge.build.builder import build, raised_recursion_limit
    from bridge.verification.fits import require_fit

    if not planned.refusals:
        require_fit(opened, planned, proof=options is not None)
    with watch.stage("build"), raised_recursion_limit(planned):
        built = build(planned, name=opened.title, outputs=opened.outputs)
    if options is None:
        return Attempt(opened, planned, built, None)
    with watch.stage("compare"), raised_recursion_limit(planned):
        from bridge.verification.verify import verify_conversion

        return Attempt(opened, planned, built, verify_conversion(opened, planned, built, options))


def inspect(
    source: object,
    args: object = None,
    kwargs: Mapping[str, object] | None = None,
    *,
    dynamic_shapes: object = None,
    stateful: bool = False,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Plan a conversion without building anything: what would become what, and every refusal.

    Args:
        source, args, kwargs, dynamic_shapes, stateful, batch_size, progress: as `convert` takes them.

    Returns:
        A report with a row for each node, and in `refusals` a line for each that cannot be built.

    Raises:
        SourceError, ExportError: the source cannot be read or exported.
        MissingPackageError: torch or the Keras backend is needed and not installed.

    Examples:
        >>> print(bridge.inspect("model.onnx"))
    """
    require_keras()
    watch = Stopwatch(progress, source)
    form = Form(stateful=stateful, batch_size=batch_size)
    opened = _opened(watch, (source, args, kwargs, dynamic_shapes), form=form)
    return summarize_plan(opened, _planned(opened, watch), watch.told)


def verify_saved(
    path: str | os.PathLike[str],
    source: object,
    args: object = None,
    kwargs: Mapping[str, object] | None = None,
    *,
    dynamic_shapes: object = None,
    options: Verify | None = None,
    progress: Progress | None = None,
) -> Report:
    """Prove a `.keras` file, loaded in safe mode, against what it was made from; as `bridge.verify`.

    Args:
        path: of the `.keras` file.
        source, args, kwargs, dynamic_shapes, progress: as `convert` took them.
        options: at which inputs the two are compared. `training=True` compares their gradients in float32 too, by the
            weight map beside the file. A saved model computes in its own precision only: it has no `float64`.

    Returns:
        The report of the comparison.

    Raises:
        MismatchError: the two differ; carries the report.
        SourceError, ExportError: one of them cannot be read, or what `options` asks for does not fit them.
        WeightsError: the weight map belongs to another model.
        MissingPackageError: torch, onnxruntime or the Keras backend is needed and not installed.

    Examples:
        >>> bridge.verify("model.keras", module, args, options=bridge.Verify(sizes={"batch": (1, 64)}))
    """
    require_keras()
    options, watch = options or Verify(), Stopwatch(progress, source)
    if options.float64:
        raise SourceError(
            f"{path} computes in the precision that it was saved in: convert(source, verify=Verify(float64=True)) "
            f"compares in float64"
        )
    from bridge.verification.saved import as_kept, outputs_of, require_made_from

    model = saving.load_keras(Path(path))
    opened = as_kept(model, _opened(watch, (source, args, kwargs, dynamic_shapes), options))
    simple = _simplified(opened, watch)
    require_made_from(path, model, opened, simple)
    with watch.stage("compare"):
        import keras

        from bridge.verification.ranges import find_ranges
        from bridge.verification.verify import verify_gradients, verify_model

        find_ranges(opened, simple)
        found = verify_model(model, opened, simple, options.backends)
        if options.training:
            loaded = load_saved(path)
            made = keras.Model(loaded.model.inputs, outputs_of(path, loaded.model, opened))
            loaded = replace(loaded, model=made)
            found = found.joined(verify_gradients(loaded, opened, simple))
    report = summarize_model(opened, model, found, watch.told)
    _require_verified(path, report, found)
    return report


def require_keras() -> None:
    """Keras with its backend, before anything that takes long. Raises `MissingPackageError`."""
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    others = f"set KERAS_BACKEND to {', '.join(BACKENDS[:-1])} or {BACKENDS[-1]}"
    try:
        import keras
        import keras.ops
    except ImportError as error:
        missing = f"{error.name or backend}, which is not installed: {installing(backend)}"
        raise MissingPackageError(f"Keras needs its backend {missing}, or {others}") from error
    except ValueError as error:  # of a name that it does not know
        raise MissingPackageError(f"Keras has no backend {backend!r}: {others}") from error
    if (found := keras.backend.backend()) not in BACKENDS:
        raise MissingPackageError(f"no models are built on Keras's backend {found}: {others}")


def _opened(
    watch: Stopwatch, source: Arguments, options: Verify | None = None, form: Form | None = None
) -> Source:
    """The source, and what is asked of the inputs of its proof."""
    asked = None if options is None else Asked.of(options.inputs, options.sizes, options.seed)
    with watch.stage("export"):
        from bridge.verification.ranges import confirmed

        form = form or Form()
        opened = confirmed(load_source(*source, asked, form.dequantize))
        watch.opened = opened = opened.keeping_state(form.batch_size) if form.stateful else opened
    return opened


def _simplified(opened: Source, watch: Stopwatch) -> ir.Model:
    with watch.stage("simplify"):
        return watch.counted("simplify", simplify(watch.counted("export", opened.model)))


def _planned(opened: Source, watch: Stopwatch, channels_last: bool = False) -> Plan:
    """The plan of the simplified graph, with what sizes the free axes may have, if it can be built."""
    simple = _simplified(opened, watch)
    with watch.stage("plan"):
        import bridge.ops  # noqa: F401 - registers the operators
        from bridge.plan.planner import plan

        planned = plan(simple, channels_last=channels_last)
    if planned.refusals:
        return planned
    with watch.stage("compare"):
        from bridge.verification.ranges import find_ranges

        find_ranges(opened, planned.model)
    return planned


def _require_verified(title: object, report: Report, found: Verification) -> None:
    if not report.verified:
        reproducer = found.located and found.located.reproducer
        raise MismatchError(f"{title}: {report.first_mismatch}", report, reproducer)
