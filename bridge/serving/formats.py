"""A model in the format of another runtime: written, loaded by that runtime, compared, and only then where it was asked
for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.errors import NotRun, OutputError, SourceError, UnsupportedError, WeightsError
from bridge.files.atomic import move, private_folder
from bridge.layers import stateful_layers
from bridge.serving import as_litert, as_onnx, as_openvino, saved_model
from bridge.serving.proof import checks, require_equal
from bridge.serving.written import Made, Written
from bridge.verification.checks import EXPORTED, all_pass

if TYPE_CHECKING:
    from bridge.report.report import Report

PRECISIONS = ("float16", "int8")


@dataclass(frozen=True)
class Format:
    """How a runtime takes a model.

    Attributes:
        title: what it is called in words.
        ending: of the file; empty of a folder.
        write: the files at a path, or beside it, and what the runtime makes of them.
        precisions: of weights, beside that which the model has.
        of_graph: whether it is written of the graph that the model was built of.
    """

    title: str
    ending: str
    write: Callable[[Made, Path], Written]
    precisions: tuple[str, ...] = ()
    of_graph: bool = False


FORMATS = {
    "saved_model": Format("SavedModel", "", saved_model.write),
    "onnx": Format("ONNX", ".onnx", as_onnx.write, of_graph=True),
    "openvino": Format("OpenVINO", ".xml", as_openvino.write, ("float16",), of_graph=True),
    "litert": Format("LiteRT", ".tflite", as_litert.write, ("float16", "int8")),
}


def export(made: Made, path: Path, format: str | None = None) -> Report:
    """As `Conversion.export`, of its parts."""
    if stateful_layers(made.model):
        raise SourceError(
            "what other runtimes run starts anew with each call, and this model keeps the state of a sequence; export "
            "one that was converted without stateful"
        )
    chosen, report = _chosen(format or guessed(path), path, made), made.report
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error
    with private_folder(path) as room:
        written = chosen.write(made, room / path.name)
        leg = EXPORTED.format(chosen.title)
        try:
            found = tuple(checks(made.model, leg, written.run, report, made.precision, written.trials))
        except NotRun as error:
            others = [repr(other) for other, form in FORMATS.items() if form is not chosen]
            reason = f"{chosen.title} does not run the model: {error}; export it as {' or '.join(others)}"
            raise UnsupportedError([reason]) from error
        told = replace(report, checks=(*report.checks, *found), notes=(*report.notes, *written.notes))
        if chosen.of_graph and made.weights.one_way and not all_pass(found):
            raise WeightsError(
                f"{chosen.title} is written of the weights as torch has them, and {', '.join(made.weights.one_way)} "
                f"cannot go back there, folded into others: export it untrained, or as 'saved_model' or 'litert'"
            )
        require_equal(told, found)
        move(*((file, path.with_name(file.name)) for file in written.files))
    return told


def guessed(path: Path) -> str:
    """The format that a path says by its ending. Raises `SourceError` where it says none."""
    found = next((name for name, form in FORMATS.items() if form.ending == path.suffix), None)
    if found is None:
        raise SourceError(f"{path}: its ending names no format: give it format=, one of {', '.join(FORMATS)}")
    return found


def _chosen(name: str, path: Path, made: Made) -> Format:
    """The format of that name. Raises `SourceError` where what is asked of it does not fit."""
    if name not in FORMATS:
        raise SourceError(f"{name!r} is no format of bridge: it writes {', '.join(FORMATS)}")
    chosen = FORMATS[name]
    if chosen.ending and path.suffix != chosen.ending:
        raise SourceError(f"{path}: {chosen.title} is written as {chosen.ending}; give the path that ending")
    if chosen.ending == "" and (path.exists() or path.is_symlink()):
        raise OutputError(f"{path}: there is something already; a {chosen.title} is a new folder")
    precision, calibration = made.precision, made.calibration
    if precision is not None and precision not in chosen.precisions:
        able = [other for other, form in FORMATS.items() if precision in form.precisions]
        way = f"format={' or '.join(map(repr, able))} has" if able else f"there are {', '.join(PRECISIONS)}"
        raise SourceError(f"{chosen.title} is not written in {precision} here: {way}")
    if (precision == "int8") != (calibration is not None):
        raise SourceError(
            "int8 needs calibration=, inputs as the model will be given, whose ranges its integers stand for"
            if calibration is None
            else "calibration= is for precision='int8', which it finds the ranges of"
        )
    return chosen
