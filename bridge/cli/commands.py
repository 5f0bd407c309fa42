"""The command `bridge`. Thin: arguments in, one function of the library, a report and an exit code out.

Nothing heavy is imported before a command runs, so that `bridge --help` answers at once. While one runs,
whatever the frameworks print is kept away: stderr has progress and errors, stdout the report.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from bridge.errors import (
    BridgeError,
    ExportError,
    MismatchError,
    MissingPackageError,
    OutputError,
    SourceError,
    UnsupportedError,
    WeightsError,
)

if TYPE_CHECKING:
    from bridge.report.report import Report
    from bridge.stages import Progress

EXIT_CODES: dict[type[BaseException], int] = {
    MismatchError: 1,
    SourceError: 3,
    ExportError: 3,
    WeightsError: 3,
    UnsupportedError: 4,
    MissingPackageError: 5,
    OutputError: 6,
    Exception: 70,
    KeyboardInterrupt: 130,
}
EPILOG = """\b
Exit codes:
   0  done, and proved where proof was asked for
   1  the Keras model does not agree with its source
   2  wrong usage
   3  the source cannot be read, or torch cannot export it
   4  some nodes cannot be converted (one line for each)
   5  a package is missing
   6  a file cannot be written
  70  a bug in bridge (--debug shows where)
"""
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
EXTRAS = ("torch", "tensorflow", "jax")
REPORTS = (".html", ".json", ".txt")
WIDTH = 110  # of tables where there is no terminal


class Sizes(click.ParamType):
    """`height=320,640` as `("height", (320, 640))`."""

    name = "sizes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        axis, _, numbers = value.partition("=")
        if not re.fullmatch(r"[1-9]\d{0,8}(,[1-9]\d{0,8})*", numbers) or not axis:
            self.fail(f"{value!r} is not AXIS=N,N…, such as height=320,640", param, ctx)
        return axis, tuple(map(int, numbers.split(",")))


file_type = click.Path(dir_okay=False, path_type=Path)
report_option = click.option(
    "--report", type=file_type, metavar="FILE", help=f"Write the report to a file: {', '.join(REPORTS)}."
)
inputs_option = click.option(
    "--inputs",
    type=file_type,
    metavar="FILE",
    help="Prove with these inputs: .npz (arrays by name) or .npy.",
)
sizes_option = click.option(
    "--sizes",
    type=Sizes(),
    multiple=True,
    metavar="AXIS=N,N…",
    help="Prove at these sizes; once for each free axis.",
)
seed_option = click.option(
    "--seed", type=click.IntRange(min=0), default=0, help="Of the inputs that are drawn (0)."
)
trust_option = click.option(
    "--trust", is_flag=True, help="Read a .pt2 file even if it could run code; it comes from where you trust."
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")


@click.group(epilog=EPILOG, context_settings=SETTINGS)
@click.version_option(package_name="onnx-keras-bridge", prog_name="bridge")
@click.option("--debug", is_flag=True, help="Show tracebacks and what the frameworks print.")
@click.pass_context
def main(context: click.Context, debug: bool) -> None:
    """Trained PyTorch models as native Keras 3 models, proved equal.

    \b
    SOURCE is one of
      file.onnx
      file.pt2           saved by torch.export.save
      package.module:f   where f() returns (module, args) or (module, args, dynamic_shapes)
    """
    context.obj = debug


@main.command()
@click.argument("source")
@click.option(
    "-o", "--output", type=file_type, required=True, metavar="FILE.keras", help="The file to write."
)
@report_option
@click.option(
    "--verify/--no-verify", default=True, help="Compare torch, onnxruntime and Keras (the default)."
)
@inputs_option
@sizes_option
@seed_option
@click.option("--channels-last", is_flag=True, help="Image inputs and outputs as N H W C.")
@click.option("--float64", is_flag=True, help="Compare torch and Keras in double precision too.")
@click.option("--training", is_flag=True, help="Compare gradients and steps of training too.")
@quiet_option
@json_option
@trust_option
@click.pass_obj
def convert(
    debug: bool,
    source: str,
    trust: bool,
    output: Path,
    report: Path | None,
    inputs: Path | None,
    sizes: Sequence[tuple[str, tuple[int, ...]]],
    seed: int,
    channels_last: bool,
    verify: bool,
    float64: bool,
    training: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Convert SOURCE to a .keras file and prove that it computes the same.

    Beside FILE.keras goes FILE.bridge.npz, from which bridge.load finds the way back to torch. When the
    proof fails, the report is written and the model is not.
    """
    if output.suffix != ".keras":
        raise click.UsageError(f"{output}: a Keras model is saved as .keras")

    def work(progress: Progress) -> Report:
        check_writable(output)
        given = read_source(source, trust)
        from bridge import Verify, convert

        result = convert(
            *given[:2],
            dynamic_shapes=given[2],
            channels_last=channels_last,
            verify=verify and Verify(dict(sizes), inputs, seed, float64, training),
            progress=progress,
        )
        result.save(output)
        return result.report

    answer(work, debug, report, quiet, as_json)


@main.command()
@click.argument("model", type=file_type, metavar="MODEL.keras")
@click.option("--against", "source", required=True, metavar="SOURCE", help="What the model was made from.")
@click.option(
    "--training", is_flag=True, help="Compare gradients too; needs the weight map beside the model."
)
@inputs_option
@sizes_option
@seed_option
@report_option
@quiet_option
@json_option
@trust_option
@click.pass_obj
def verify(
    debug: bool,
    model: Path,
    source: str,
    trust: bool,
    training: bool,
    inputs: Path | None,
    sizes: Sequence[tuple[str, tuple[int, ...]]],
    seed: int,
    report: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Load MODEL.keras in safe mode and compare it with its source at several sizes."""

    def work(progress: Progress) -> Report:
        given = read_source(source, trust)
        from bridge import Verify, verify

        options = Verify(dict(sizes), inputs, seed, training=training)
        return verify(model, *given[:2], dynamic_shapes=given[2], options=options, progress=progress)

    answer(work, debug, report, quiet, as_json)


@main.command()
@click.argument("source")
@report_option
@quiet_option
@json_option
@trust_option
@click.pass_obj
def inspect(debug: bool, source: str, trust: bool, report: Path | None, quiet: bool, as_json: bool) -> None:
    """Say what would become what, and what would be refused; build nothing."""

    def work(progress: Progress) -> Report:
        given = read_source(source, trust)
        from bridge import inspect

        return inspect(*given[:2], dynamic_shapes=given[2], progress=progress)

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
        click.echo(json.dumps(conversion.weights.to_json(), indent=2))
    elif from_torch is None and to_torch is None:
        click.echo(str(conversion.weights))


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

        from bridge.conversion import smallest
        from bridge.files.atomic import write_atomically

        model = smallest(*given[:2], dynamic_shapes=given[2])
        write_atomically(output, lambda part: onnx.save(model, part))
    click.echo(onnx.printer.to_text(model))


@main.command()
@json_option
@click.pass_obj
def ops(debug: bool, as_json: bool) -> None:
    """List the operators: family, name, what they do with the order of axes, what they become."""
    with finishing(debug):
        from bridge.ops.catalogue import catalogue

        entries = catalogue()
    if as_json:
        click.echo(json.dumps([asdict(entry) for entry in entries], indent=2))
        return
    rows = [
        (
            entry.family,
            entry.operator if entry.domain == "ai.onnx" else f"{entry.domain}.{entry.operator}",
            entry.layout,
            short(entry.becomes),
        )
        for entry in entries
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in [("family", "operator", "order of axes", "becomes"), *rows]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def short(layers: Sequence[str]) -> str:
    """`Conv1D, Conv2D, Conv3D` as `Conv1D/2D/3D`."""
    ranks: dict[str, list[str]] = {}
    for layer in layers:
        rank = re.search(r"[123]D", layer)
        ranks.setdefault(layer.replace(rank[0], "{}") if rank else layer, []).append(rank[0] if rank else "")
    return ", ".join(name.format("/".join(found)) for name, found in ranks.items())


# --- running and answering ----------------------------------------------------------------------------------


def answer(
    work: Callable[[Progress], Report], debug: bool, report_file: Path | None, quiet: bool, as_json: bool
) -> None:
    """Run `work`, show and write its report, and leave with the exit code of what went wrong."""
    if report_file is not None and report_file.suffix not in REPORTS:
        raise click.UsageError(f"{report_file}: a report is written as {', '.join(REPORTS)}")
    with finishing(debug) as stderr:
        failure: BridgeError | None = None
        if report_file is not None:
            check_writable(report_file)
        try:
            with progress_bar(stderr, quiet) as progress:
                report = work(progress)
        except MismatchError as error:
            report, failure = error.report, error
        if report_file is not None:
            from bridge.files.atomic import write_atomically

            text = rendered(report, report_file.suffix)
            write_atomically(report_file, lambda part: part.write_text(text, encoding="utf-8"))
        if as_json:
            click.echo(report.to_json(), file=sys.__stdout__)
        elif not quiet:
            show(report)
        if report.refusals:
            failure = UnsupportedError(report.refusals)
        if failure is not None:
            raise failure


@contextlib.contextmanager
def finishing(debug: bool) -> Iterator[TextIO]:
    """Hand out stderr while the frameworks are kept quiet; an error becomes lines there and an exit code."""
    with hushed(debug) as stderr:
        try:
            yield stderr
        except (Exception, KeyboardInterrupt) as error:
            if debug and not isinstance(error, KeyboardInterrupt):
                raise
            for line in error_lines(error):
                click.echo(f"bridge: {line}", file=stderr)
            raise SystemExit(
                next(code for kind, code in EXIT_CODES.items() if isinstance(error, kind))
            ) from None


def error_lines(error: BaseException) -> list[str]:
    if isinstance(error, UnsupportedError):
        return str(error).splitlines()
    if isinstance(error, KeyboardInterrupt):
        return ["interrupted"]
    text = " ".join(str(error).split())
    return [
        text if isinstance(error, BridgeError) else f"this is a bug: {type(error).__name__}: {text[:300]}"
    ]


@contextlib.contextmanager
def hushed(debug: bool) -> Iterator[TextIO]:
    """What Python and native libraries print goes nowhere; gives the real stderr."""
    if debug:
        yield sys.stderr
        return
    python_stderr = sys.__stderr__ or sys.stderr
    descriptor = python_stderr.fileno()
    python_stderr.flush()
    with os.fdopen(os.dup(descriptor), "w") as stderr, open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), descriptor)
        try:
            with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
                yield stderr
        finally:
            os.dup2(stderr.fileno(), descriptor)


@contextlib.contextmanager
def progress_bar(stderr: TextIO, quiet: bool) -> Iterator[Progress]:
    """The stages as they are entered, on a terminal's stderr; gone when done."""
    if quiet or not stderr.isatty():
        yield lambda stage: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    from bridge.stages import STAGES

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:9}"),
        BarColumn(24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns, console=Console(file=stderr), transient=True, redirect_stdout=False, redirect_stderr=False
    ) as bar:
        task = bar.add_task("reading", total=len(STAGES))
        yield lambda stage: bar.update(task, description=stage, completed=STAGES.index(stage))


def show(report: Report) -> None:
    from bridge.report import text

    terminal = sys.__stdout__ is not None and sys.__stdout__.isatty()
    width = shutil.get_terminal_size().columns if terminal else text.WIDTH
    click.echo(text.render(report, width=width, color=terminal), file=sys.__stdout__)


# --- the source ---------------------------------------------------------------------------------------------


def read_source(source: str, trust: bool) -> tuple[Any, Any, Any]:
    """SOURCE as `bridge.convert` takes it: the model, its example inputs, its dynamic shapes.

    A `.pt2` file is read here, by torch alone, where the user trusts it.
    """
    if trust and Path(source).suffix == ".pt2":
        from bridge.frontend.source import trusted_program

        return trusted_program(Path(source)), None, None
    if not CALLABLE.fullmatch(source) or Path(source).exists():
        return source, None, None
    module_name, _, attribute = source.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        made = importlib.import_module(module_name)
        for name in attribute.split("."):
            made = getattr(made, name)
        returned = made() if callable(made) else made
    except ModuleNotFoundError as error:
        if error.name and not module_name.startswith(error.name):
            extra = f": pip install 'onnx-keras-bridge[{error.name}]'" if error.name in EXTRAS else ""
            raise MissingPackageError(
                f"{source} needs {error.name}, which is not installed{extra}"
            ) from error
        raise SourceError(f"{source}: there is no module {error.name} here") from error
    except Exception as error:
        raise SourceError(f"{source}: {type(error).__name__}: {error}") from error
    if not isinstance(returned, tuple) or len(returned) not in (2, 3):
        raise SourceError(f"{source} has to return (module, args) or (module, args, dynamic_shapes)")
    return (*returned, None)[:3]


# --- files --------------------------------------------------------------------------------------------------


def rendered(report: Report, suffix: str) -> str:
    if suffix == ".json":
        return report.to_json()
    if suffix == ".txt":
        return str(report)
    from bridge.report.html import render

    return render(report)


def check_writable(path: Path) -> None:
    """Raise `OutputError` now rather than after the work."""
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise OutputError(f"{path}: cannot be written: permission denied")
