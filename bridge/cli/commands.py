"""The command `bridge`. Thin: arguments in, one function of the library, a report and an exit code out.

Nothing heavy is imported before a command runs, so that `bridge --help` answers at once. While one runs,
whatever the frameworks print is kept away: stderr has progress and errors, stdout the report.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bridge.cli.console import Commands, answer, check_writable, finishing, say
from bridge.cli.exporting import exported
from bridge.cli.operators import aligned
from bridge.cli.options import (
    SourceType,
    backends_option,
    calibration_option,
    file_type,
    folder_type,
    format_option,
    inputs_option,
    json_option,
    pieces_options,
    precision_option,
    quiet_option,
    report_option,
    seed_option,
    sizes_option,
    trust_option,
)
from bridge.cli.zoo import batch
from bridge.frontend.named import read_source

if TYPE_CHECKING:
    from bridge.report.report import Report
    from bridge.stages import Progress

EPILOG = """\b
Exit codes:
   0  done, and proved where proof was asked for
   1  the Keras model does not agree with its source
   2  wrong usage
   3  the source cannot be read, or torch cannot export it
   4  some nodes cannot be converted (one line for each)
   5  a package is missing
   6  a file cannot be written
   7  the process of a model died, or took too long (bridge batch)
  70  a bug in bridge (--debug shows where)
"""
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
WIDTH = 110  # of tables where there is no terminal


@click.group(cls=Commands, epilog=EPILOG, context_settings=SETTINGS)
@click.version_option(package_name="onnx-keras-bridge", prog_name="bridge")
@click.option("--debug", is_flag=True, help="Show tracebacks and what the frameworks print.")
@click.pass_context
def main(context: click.Context, debug: bool) -> None:
    """Trained PyTorch models as native Keras 3 models, proved equal.

    \b
    SOURCE is one of
      file.onnx
      file.pt2           saved by torch.export.save
      mymodel.py:make    where make() returns (module, args) or (module, args, dynamic_shapes)
      package.module:f   where f() does
    """
    context.obj = debug


main.add_command(batch)


@main.command()
@click.argument("source")
@click.option(
    "-o", "--output", type=file_type, required=True, metavar="FILE.keras", help="The file to write."
)
@click.option(
    "--source", "written", type=file_type, metavar="FILE.py", help="Write the model as Keras source too."
)
@click.option(
    "--export",
    "other",
    type=folder_type,
    metavar="PATH",
    help="Write it for another runtime too: bridge export --help.",
)
@format_option
@report_option
@click.option(
    "--verify/--no-verify", default=True, help="Compare torch, onnxruntime and Keras (the default)."
)
@inputs_option
@sizes_option
@seed_option
@click.option("--channels-last", is_flag=True, help="Image inputs and outputs as N H W C.")
@click.option(
    "--dequantize", is_flag=True, help="A file of integers as the model of numbers that they stand for."
)
@pieces_options
@click.option("--float64", is_flag=True, help="Compare torch and Keras in double precision too.")
@click.option("--training", is_flag=True, help="Compare gradients and steps of training too.")
@backends_option
@quiet_option
@json_option
@trust_option
@click.pass_obj
def convert(
    debug: bool, source: str, trust: bool, output: Path, written: Path | None, other: Path | None, form: str | None,
    report: Path | None, inputs: Path | None, sizes: Sequence[tuple[str, tuple[int, ...]]], seed: int,
    channels_last: bool, dequantize: bool, stateful: bool, batch_size: int | None, verify: bool, float64: bool,
    training: bool, backends: tuple[str, ...], quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Convert SOURCE to a .keras file and prove that it computes the same.

    Beside FILE.keras goes FILE.bridge.npz, from which bridge.load finds the way back to torch. When the
    proof fails, the report is written and the model is not; FILE.mismatch has the first node that departs by itself.
    Beside the FILE.py of --source go its weights, FILE.weights.h5.
    """
    if output.suffix != ".keras":
        raise click.UsageError(f"{output}: a Keras model is saved as .keras")
    if written is not None and written.suffix != ".py":
        raise click.UsageError(f"{written}: a source is written as .py")

    def work(progress: Progress) -> Report:
        check_writable(output)
        if written is not None:
            check_writable(written)
        given = read_source(source, trust)
        from bridge import Verify, convert

        result = convert(
            *given[:2],
            dynamic_shapes=given[2],
            channels_last=channels_last,
            dequantize=dequantize,
            stateful=stateful,
            batch_size=batch_size,
            verify=verify and Verify(dict(sizes), inputs, seed, float64, training, backends),
            progress=progress,
        )
        result.save(output)
        if written is not None:
            result.save_source(written)
        return result.report if other is None else exported(result, other, form)

    answer(work, debug, report, quiet, as_json, _apart(output))


def _apart(model: Path) -> Path:
    """The folder beside a model, in which a node that departs is by itself."""
    return model.with_suffix(".mismatch")


@main.command()
@click.argument("model", type=file_type, metavar="MODEL.keras")
@click.option(
    "--against",
    "source",
    required=True,
    type=SourceType(),
    metavar="SOURCE",
    help="What the model was made from.",
)
@click.option(
    "--training", is_flag=True, help="Compare gradients too; needs the weight map beside the model."
)
@inputs_option
@sizes_option
@seed_option
@backends_option
@report_option
@quiet_option
@json_option
@click.option(
    "--bisect",
    "bisected",
    is_flag=True,
    help="Where they differ, find the first node or operation that does.",
)
@trust_option
@click.pass_obj
def verify(
    debug: bool, model: Path, source: str, trust: bool, training: bool, inputs: Path | None,
    sizes: Sequence[tuple[str, tuple[int, ...]]], seed: int, backends: tuple[str, ...], report: Path | None,
    quiet: bool, as_json: bool, bisected: bool,
) -> None:  # fmt: skip
    """Load MODEL.keras in safe mode and compare it with its source at several sizes.

    With --bisect, what departs first is named, and written by itself into MODEL.mismatch where it is a node that can
    be run so. Exit codes: bridge --help.
    """

    def work(progress: Progress) -> Report:
        given = read_source(source, trust)
        from bridge import Verify, verify
        from bridge.diagnosis import verify_located

        options = Verify(dict(sizes), inputs, seed, training=training, backends=backends)
        prove = partial(verify_located, folder=_apart(model)) if bisected else verify
        return prove(model, *given[:2], dynamic_shapes=given[2], options=options, progress=progress)

    answer(work, debug, report, quiet, as_json)


@main.command()
@click.argument("source")
@pieces_options
@report_option
@quiet_option
@json_option
@trust_option
@click.pass_obj
def inspect(
    debug: bool, source: str, trust: bool, stateful: bool, batch_size: int | None, report: Path | None, quiet: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Say what would become what, and what would be refused; build nothing."""

    def work(progress: Progress) -> Report:
        given = read_source(source, trust)
        from bridge import inspect

        return inspect(
            *given[:2], dynamic_shapes=given[2], stateful=stateful, batch_size=batch_size, progress=progress
        )

    answer(work, debug, report, quiet, as_json)


@main.command()
@click.argument("model", type=file_type, metavar="MODEL.keras")
@click.option("--to-torch", type=file_type, metavar="FILE", help="Write a state_dict: .pt or .safetensors.")
@click.option(
    "--from-torch", type=file_type, metavar="FILE", help="Fill MODEL.keras from a newer checkpoint."
)
@json_option
@click.pass_obj
def weights(debug: bool, model: Path, to_torch: Path | None, from_torch: Path | None, as_json: bool) -> None:
    """Show what every variable of MODEL.keras is made of, and take weights back to torch or in from there.

    Needs the weight map that `bridge convert` wrote beside the model. Checkpoints hold tensors only.
    """
    with finishing(debug):
        import bridge
        from bridge.files.checkpoints import read_state, write_state

        if to_torch is not None:
            check_writable(to_torch)
        conversion = bridge.load(model)
        if from_torch is not None:
            conversion.weights.load_torch(read_state(from_torch))
            conversion.save(model)
        if to_torch is not None:
            write_state(to_torch, conversion.weights.to_torch())
    if as_json:
        say(json.dumps(conversion.weights.to_json(), indent=2))
    elif from_torch is None and to_torch is None:
        say(str(conversion.weights))


@main.command()
@click.argument("model", type=file_type, metavar="MODEL.keras")
@click.option(
    "-o", "--output", type=folder_type, required=True, metavar="PATH", help="The file or folder to write."
)
@format_option
@precision_option
@calibration_option
@report_option
@quiet_option
@json_option
@click.pass_obj
def export(
    debug: bool, model: Path, output: Path, form: str | None, precision: str | None, calibration: Path | None,
    report: Path | None, quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Write MODEL.keras for another runtime, which then loads it and is compared with the model.

    \b
    FILE.onnx     ONNX
    FILE.xml      OpenVINO, with its weights in FILE.bin
    FILE.tflite   LiteRT, of built-in operators only
    FOLDER        a SavedModel for TensorFlow Serving, made for inference, in the fastest of its forms

    Needs the weight map that `bridge convert` wrote beside the model.
    """

    def work(progress: Progress) -> Report:
        import bridge

        return exported(bridge.load(model), output, form, precision, calibration)

    answer(work, debug, report, quiet, as_json)


@main.command()
@click.argument("source")
@click.option("-o", "--output", type=file_type, required=True, metavar="FILE.onnx", help="The file to write.")
@trust_option
@click.pass_obj
def reduce(debug: bool, source: str, trust: bool, output: Path) -> None:
    """Write the smallest graph whose conversion fails as SOURCE's does, and print it: for the report of a fault."""
    with finishing(debug):
        check_writable(output)
        given = read_source(source, trust)
        import onnx
        import onnx.printer

        from bridge.diagnosis import smallest
        from bridge.files.atomic import write_atomically

        model = smallest(*given[:2], dynamic_shapes=given[2])
        write_atomically(output, lambda part: onnx.save(model, part))
    say(onnx.printer.to_text(model))


@main.command()
@json_option
@click.option(
    "--markdown", "as_markdown", is_flag=True, help="Write docs/operators.md, with what is refused."
)
@click.pass_obj
def ops(debug: bool, as_json: bool, as_markdown: bool) -> None:
    """List the operators: family, name, what they do with the order of axes, what they become."""
    with finishing(debug):
        from bridge.conversion import require_keras

        require_keras()
        from bridge.ops.catalogue import catalogue, markdown

        if as_markdown:
            text = markdown().rstrip()
        elif as_json:
            text = json.dumps([asdict(entry) for entry in catalogue()], indent=2)
        else:
            text = aligned(catalogue())
    say(text)
