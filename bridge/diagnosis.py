"""What to do about a conversion that fails: where it departs first, and the smallest graph that shows it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import onnx

from bridge import saving
from bridge.conversion import Attempt, attempt, convert, verify_saved
from bridge.errors import BridgeError, MismatchError, SourceError
from bridge.frontend.source import as_proto, load_source
from bridge.graph.reduce import reduce
from bridge.report.report import Report
from bridge.stages import Progress, Stopwatch
from bridge.verification.bisect.origin import Located
from bridge.verification.options import Verify


def bisect(
    source: object,
    args: object = None,
    kwargs: Mapping[str, object] | None = None,
    *,
    dynamic_shapes: object = None,
    verify: Verify | None = None,
    saved: str | os.PathLike[str] | None = None,
    folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Convert a source and look where the result departs from it first: at the export, a pass, a node as Keras has it,
    or in training; `convert` does so by itself where its proof fails. No departure is an error here.

    Args:
        source, args, kwargs, dynamic_shapes, progress: as `convert` takes them.
        verify: what is compared, and at which inputs.
        saved: a `.keras` file made from the source. Where the conversion is equal, it is compared with that, operation
            by operation.
        folder: where the first node that departs is written by itself, if one does: `node.onnx`, `inputs.npz`,
            `outputs.npz` and `keras.json`.

    Returns:
        The report of the conversion; its `origin` says where it departs, and is None where it does not.

    Raises:
        SourceError, ExportError, UnsupportedError, MissingPackageError: as `convert` does.
        OutputError: the folder cannot be written.

    Examples:
        >>> bridge.bisect(module, args, folder="reproducer").origin
    """
    given, watch = (source, args, kwargs, dynamic_shapes), Stopwatch(progress, source)
    made = attempt(watch, given, verify or Verify())
    report = made.report(watch)
    located = None if made.found is None else made.found.located
    if located is None and saved is not None:
        located = _in_file(Path(saved), made)
    if located is None:
        return report
    origin = located.origin
    if folder is not None and located.reproducer is not None:
        origin = replace(origin, reproducer=str(located.reproducer.save(folder)))
    return replace(report, origin=origin)


def verify_located(
    path: str | os.PathLike[str],
    source: object,
    args: object = None,
    kwargs: Mapping[str, object] | None = None,
    *,
    dynamic_shapes: object = None,
    options: Verify,
    folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Report:
    """As `verify_saved`; where the two differ, the `MismatchError` has a report that says where first, as `bisect`
    does."""
    given = source, args, kwargs
    try:
        return verify_saved(path, *given, dynamic_shapes=dynamic_shapes, options=options, progress=progress)
    except MismatchError as error:
        found = bisect(
            *given,
            dynamic_shapes=dynamic_shapes,
            verify=options,
            saved=path,
            folder=folder,
            progress=progress,
        )
        raise MismatchError(str(error), replace(error.report, origin=found.origin)) from error


def _in_file(path: Path, made: Attempt) -> Located | None:
    """The first operation of a saved model that gives something else than that of the same name in what was made."""
    from bridge.verification.bisect.saved import first_in_file
    from bridge.verification.saved import require_made_from
    from bridge.verification.verify import trials_of

    model = saving.load_keras(path)
    require_made_from(path, model, made.opened, made.planned.model)
    tried, _, _ = trials_of(made.opened, made.planned.model)
    return first_in_file(model, made.built, tried[0])


def smallest(
    source: object,
    args: object = None,
    kwargs: Mapping[str, object] | None = None,
    *,
    dynamic_shapes: object = None,
) -> onnx.ModelProto:
    """The smallest graph whose conversion fails as that of `source` does: for the report of a fault.

    Raises `SourceError` where the graph of `source` converts and is proved.
    """
    given = load_source(source, args, kwargs, dynamic_shapes).given
    model = as_proto(given)
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
