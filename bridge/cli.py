"""The command `bridge`. Thin: arguments in, one function of the library, tables and exit codes out.

Nothing heavy is imported until a command runs, so that `bridge --help` answers at once.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from bridge.errors import (
    BridgeError,
    ExportError,
    MissingPackage,
    Mismatch,
    OutputError,
    SourceError,
    Unsupported,
    WeightsError,
)

if TYPE_CHECKING:
    from bridge.report import Report

EXIT_CODES: dict[type[BaseException], int] = {
    Mismatch: 1,
    click.UsageError: 2,
    SourceError: 3,
    ExportError: 3,
    WeightsError: 3,
    Unsupported: 4,
    MissingPackage: 5,
    OutputError: 6,
    Exception: 70,
    KeyboardInterrupt: 130,
}
EPILOG = """\b
Exit codes:
  0   done, and proved where proof was asked for
  1   the Keras model does not agree with its source
  2   wrong usage
  3   the source cannot be read, or torch cannot export it
  4   some nodes cannot be converted (one line for each)
  5   a package is missing
  6   a file cannot be written
  70  a bug in bridge
"""
SOURCE_HELP = "SOURCE is file.onnx, file.pt2, or package.module:callable that returns (module, args) or (module, args, dynamic_shapes)."
REPORTS = (".html", ".json", ".txt")


def main() -> None:
    """Entry point of the command."""
    cli()


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="onnx-keras-bridge", prog_name="bridge")
@click.option("--debug", is_flag=True, help="Show tracebacks and whatever the frameworks print.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Trained PyTorch models as native Keras 3 models, proved equal."""
    context.obj = context.with_resource(Session.opened(debug))


def source_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.argument("source")(function)


quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
float64_option = click.option("--float64", is_flag=True, help="Also compare torch and Keras in double precision.")
report_option = click.option(
    "--report", type=click.Path(path_type=Path), metavar="FILE", help=f"Write the report: {', '.join(REPORTS)}."
)


@cli.command(short_help="Convert a model to Keras and prove the result.")
@source_argument
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE.keras")
@report_option
@click.option("--verify/--no-verify", default=True, help="Compare torch, onnxruntime and Keras (the default).")
@float64_option
@quiet_option
@json_option
@click.pass_obj
def convert(
    session: Session, source: str, output: Path, report: Path | None, verify: bool, float64: bool, quiet: bool, as_json: bool
) -> None:
    """Convert SOURCE to one .keras file and prove that it computes the same.

    SOURCE is file.onnx, file.pt2, or package.module:callable that returns (module, args) or (module, args,
    dynamic_shapes). Nothing is written when the proof fails, except the report.
    """
    if output.suffix != ".keras":
        raise click.UsageError(f"{output}: a Keras model is saved as .keras")
    with session.answering(report, quiet, as_json) as answer:
        writable(output)
        given = read_source(source)
        from bridge.convert import convert as run

        with session.progress(quiet) as progress:
            result = run(*given, verify=verify, float64=float64, progress=progress)
            result.save(output)
        answer.report = result.report
    if not quiet and not as_json:
        click.echo(f"wrote {output}")


@cli.command(short_help="Prove a .keras file against its source.")
@click.argument("model", type=click.Path(path_type=Path), metavar="MODEL.keras")
@click.option("--against", "source", required=True, metavar="SOURCE", help="What the model was made from.")
@report_option
@quiet_option
@json_option
@click.pass_obj
def verify(session: Session, model: Path, source: str, report: Path | None, quiet: bool, as_json: bool) -> None:
    """Load MODEL.keras in safe mode and compare it with SOURCE at several sizes.

    SOURCE is what `bridge convert` takes.
    """
    with session.answering(report, quiet, as_json) as answer:
        given = read_source(source)
        from bridge.convert import verify_saved

        with session.progress(quiet) as progress:
            answer.report = verify_saved(model, *given, progress=progress)


@cli.command(short_help="Say what would become what; build nothing.")
@source_argument
@report_option
@quiet_option
@json_option
@click.pass_obj
def inspect(session: Session, source: str, report: Path | None, quiet: bool, as_json: bool) -> None:
    """The plan for SOURCE: every node with its builder, and every node that would be refused.

    SOURCE is what `bridge convert` takes.
    """
    with session.answering(report, quiet, as_json) as answer:
        given = read_source(source)
        from bridge.convert import inspect as run

        with session.progress(quiet) as progress:
            answer.report = run(*given, progress=progress)
        if answer.report.refusals:
            raise Unsupported(answer.report.refusals)


@cli.command(short_help="The table of operators.")
@json_option
@click.pass_obj
def ops(session: Session, as_json: bool) -> None:
    """Every ONNX operator that is converted: its family, how it treats the order of axes, what it becomes."""
    with session.failing():
        from bridge.ops.catalogue import catalogue

        entries = catalogue()
    if as_json:
        click.echo(json.dumps([entry.__dict__ for entry in entries], indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("family", "operator", "axes", "becomes", box=None, header_style="bold dim", padding=(0, 2, 0, 0))
    shown = None
    for entry in entries:
        table.add_row("" if entry.family == shown else entry.family, entry.operator, entry.layout, ", ".join(entry.becomes))
        shown = entry.family
    console().print(table)
    Console  # noqa: B018


# --- the source ---------------------------------------------------------------------------------------------


def read_source(source: str) -> tuple[Any, Any, None, Any] | tuple[str]:
    """What `bridge.convert` takes, from how SOURCE is written."""
    raise NotImplementedError
