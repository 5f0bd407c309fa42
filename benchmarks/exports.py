"""Which of `models/` each format holds, and how far it is from the Keras model: the table of docs/export.md.

    python -m benchmarks.exports [--format "openvino float16" …] [network ...]      all networks if none are given

Every export is loaded by its own runtime. A cell is the largest relative error, or why there is no file. `int8` has its
task's score beside that of the model, calibrated with what it was trained on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from benchmarks.timing import one_thread

one_thread()

import click
import numpy as np

import bridge
import models

FORMS = {  # the ending, and the precision
    "saved_model": ("", None),
    "onnx": (".onnx", None),
    "openvino": (".xml", None),
    "openvino float16": (".xml", "float16"),
    "litert": (".tflite", None),
    "litert float16": (".tflite", "float16"),
}
NO_NETWORKS = ("demo", "fine_tune", "train", "vision")
CALIBRATED = ("digits", "digit_images")  # of which there is a score, and examples
EXAMPLES = 200  # to calibrate with


def networks() -> Iterator[str]:
    """The modules of `models/`, by their names below it."""
    (root,) = models.__path__
    for path in sorted(Path(root).rglob("*.py")):
        name = ".".join(path.relative_to(root).with_suffix("").parts)
        if path.stem != "__init__" and name not in NO_NETWORKS:
            yield name


def converted(name: str) -> bridge.Conversion:
    """Compared only where that has to say at which sizes it runs."""
    module, args, axes = import_module(f"models.{name}").make()
    conversion = bridge.convert(module, args, dynamic_shapes=axes, verify=False)
    try:
        with tempfile.TemporaryDirectory() as folder:
            conversion.export(Path(folder) / "net.onnx")
    except bridge.SourceError:
        return bridge.convert(module, args, dynamic_shapes=axes)
    except bridge.BridgeError:
        pass
    return conversion


def cell(conversion: bridge.Conversion, form: str) -> str:
    ending, precision = FORMS[form]
    with tempfile.TemporaryDirectory() as folder:
        try:
            report = conversion.export(Path(folder) / f"net{ending}", precision=precision)
        except bridge.MismatchError as error:
            worst = max(check.error for check in error.report.checks)
            return f"refused: differs by {worst:.1g}"
        except bridge.BridgeError as error:
            return f"refused: {str(error).splitlines()[0][:90]}"
    return f"{max(check.error for check in report.checks if 'as converted' in check.leg):.0e}"


def in_integers(name: str) -> str:
    """The task's score of the model and of its int8."""
    from ai_edge_litert.interpreter import Interpreter

    from bridge.serving.proof import flat_call

    network, conversion = import_module(f"models.{name}"), converted(name)
    images = import_module("models.digits").split()[0][:EXAMPLES]
    rows = [image.reshape(1, *[1] * (name == "digit_images"), *image.shape) for image in images]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.tflite"
        report = conversion.export(path, precision="int8", calibration=rows)
        run = Interpreter(model_path=str(path)).get_signature_runner()
        (x,), whole = [x.name for x in conversion.model.inputs], flat_call(conversion.model)

        def predict(given: np.ndarray) -> np.ndarray:
            return next(iter(run(**{x: given}).values()))

        scores = [network.score(one)[network.METRIC] for one in (lambda given: whole([given])[0], predict)]
    worst = max(check.error for check in report.checks if "as converted" in check.leg)
    return (
        f"{name}: {scores[0]:.4f} as converted, {scores[1]:.4f} in int8, largest relative error {worst:.0e}"
    )


@click.command(help=__doc__)
@click.option("--format", "forms", multiple=True, type=click.Choice([*FORMS, "int8"]))
@click.argument("names", nargs=-1)
def main(forms: tuple[str, ...], names: tuple[str, ...]) -> None:
    chosen = [form for form in FORMS if form in forms or not forms and FORMS[form][1] is None]
    if chosen:
        click.echo("| | " + " | ".join(chosen) + " |\n|--|" + "--|" * len(chosen))
    for name in (names or networks()) if chosen else ():
        conversion = converted(name)
        click.echo(f"| {name} | " + " | ".join(cell(conversion, form) for form in chosen) + " |")
    for name in CALIBRATED if not forms or "int8" in forms else ():
        if not names or name in names:
            click.echo(in_integers(name))


if __name__ == "__main__":
    main()
