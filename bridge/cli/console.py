"""What the command says: its answer on stdout, progress and errors on stderr, and its exit code."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import click

from bridge.errors import (
    BridgeError,
    ExportError,
    MismatchError,
    MissingPackageError,
    OutputError,
    ProcessError,
    SourceError,
    UnsupportedError,
    WeightsError,
)
from bridge.report import SUFFIXES

if TYPE_CHECKING:
    from bridge.report.report import Report
    from bridge.stages import Progress

PLAIN = str.maketrans(  # of what we print
    {
        "→": "->",
        "←": "<-",
        "↔": "<->",
        "─": "-",
        "·": ".",
        "…": "...",
        "✗": "x",
        "⇄": "<->",
        "×": "x",
        "–": "-",
        "’": "'",
    }
)
LINE = "bridge.line"  # of a context: the command line
EXIT_CODES: dict[type[BaseException], int] = {
    MismatchError: 1,
    SourceError: 3,
    ExportError: 3,
    WeightsError: 3,
    UnsupportedError: 4,
    MissingPackageError: 5,
    OutputError: 6,
    ProcessError: 7,
    Exception: 70,
    KeyboardInterrupt: 130,
}


class Commands(click.Group):
    """A group of commands in which wrong usage is one line too, and that remember how they were called."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        context.meta[LINE] = shlex.join(["bridge", *args])
        return super().parse_args(context, args)

    def main(self, *args: Any, **settings: Any) -> NoReturn:
        try:
            code = super().main(*args, **{**settings, "standalone_mode": False})
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            code = error.exit_code
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            help_of = context.command_path if context else "bridge"
            click.echo(f"bridge: {' '.join(error.format_message().split())} ({help_of} --help)", err=True)
            code = error.exit_code
        except click.Abort:
            code = EXIT_CODES[KeyboardInterrupt]
        sys.exit(code)


def answer(
    work: Callable[[Progress], Report], debug: bool, report_file: Path | None, quiet: bool, as_json: bool,
    apart: Path | None = None,
) -> None:  # fmt: skip
    """Run `work`, show and write its report, and leave with the exit code of what went wrong. A node that departs is
    written by itself into the folder `apart`."""
    if report_file is not None and report_file.suffix not in SUFFIXES:
        raise click.UsageError(f"{report_file}: a report is written as {', '.join(SUFFIXES)}")
    with finishing(debug) as stderr:
        failure: BridgeError | None = None
        if report_file is not None:
            check_writable(report_file)
        try:
            with progress_bar(stderr, quiet) as progress:
                report = work(progress)
        except MismatchError as error:
            report, failure = error.report, error
            if apart is not None and error.reproducer is not None and report.origin is not None:
                where = str(error.reproducer.save(apart))
                report = replace(report, origin=replace(report.origin, reproducer=where))
        report = replace(report, command=click.get_current_context().meta[LINE])
        if report_file is not None:
            report.save(report_file)
        if as_json:
            say(report.to_json())
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
    with (
        os.fdopen(os.dup(descriptor), "w", errors="backslashreplace") as stderr,
        open(os.devnull, "w") as nowhere,
    ):
        os.dup2(nowhere.fileno(), descriptor)
        try:
            with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
                yield stderr
        finally:
            os.dup2(stderr.fileno(), descriptor)


@contextlib.contextmanager
def bar(
    stderr: TextIO, quiet: bool, text: str = "{task.description}", behind: bool = False
) -> Iterator[Callable[[str, int, int], None] | None]:
    """How far it is, on a terminal's stderr: told by a description, how many are done, and of how many; gone when done.
    None where nothing is shown. The `text` of the description stands before the bar, or `behind` it."""
    if quiet or not stderr.isatty():
        yield None
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

    told, counted = TextColumn(text, markup=False), (BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn())
    columns = (SpinnerColumn(), *counted, told) if behind else (SpinnerColumn(), told, *counted)
    with Progress(
        *columns, console=Console(file=stderr), transient=True, redirect_stdout=False, redirect_stderr=False
    ) as shown:
        task = shown.add_task("", total=None)
        yield lambda description, done, total: shown.update(
            task, description=description, completed=done, total=total
        )


@contextlib.contextmanager
def progress_bar(stderr: TextIO, quiet: bool) -> Iterator[Progress]:
    """The stages as they are entered."""
    with bar(stderr, quiet, "{task.description:9}") as shown:
        if shown is None:
            yield lambda stage: None
            return
        from bridge.stages import STAGES

        shown("reading", 0, len(STAGES))
        yield lambda stage: shown(stage, STAGES.index(stage), len(STAGES))


def show(report: Report) -> None:
    """Print the report, as wide as the terminal is if stdout is one."""
    terminal = sys.__stdout__ is not None and sys.__stdout__.isatty()
    width = shutil.get_terminal_size().columns if terminal else None
    say(report.to_text(width=width, color=terminal))


def say(text: str) -> None:
    """Print to stdout; what its encoding lacks as the nearest that it has."""
    out = sys.__stdout__
    encoding = getattr(out, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(PLAIN).encode(encoding, "replace").decode(encoding)
    click.echo(text, file=out)


def check_writable(path: Path) -> None:
    """Raise `OutputError` now rather than after the work."""
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise OutputError(f"{path}: cannot be written: permission denied")
