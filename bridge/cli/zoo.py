"""`bridge batch`: many models, what is seen of them while they run and when they are done."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from bridge import errors
from bridge.batch import convert_zoo
from bridge.batch.executors import ENGINES, engine
from bridge.batch.outcomes import STATUSES
from bridge.cli.console import EXIT_CODES, bar, finishing, say
from bridge.cli.options import file_type, folder_type, json_option, quiet_option

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from bridge.batch import Outcome, Zoo

WIDTH = 110  # of tables where there is no terminal
COLORS = {"proved": "green", "converted": "yellow", "waiting": "dim"}  # others are red
SHOWN = 12  # operators that models wait for


@click.command()
@click.argument("zoo", type=file_type, metavar="ZOO.toml")
@click.option(
    "-o", "--output", type=folder_type, required=True, metavar="FOLDER", help="For all that is written."
)
@click.option("--executor", type=click.Choice(ENGINES), default="local", help="What runs them (local).")
@click.option(
    "--workers", type=click.IntRange(min=1), metavar="N", help="Models at once (half the processors)."
)
@click.option("--address", metavar="ADDRESS", help="Of a dask scheduler or a ray cluster that runs already.")
@click.option("--again", is_flag=True, help="Convert what is finished too.")
@quiet_option
@json_option
@click.pass_obj
def batch(
    debug: bool, zoo: Path, output: Path, executor: str, workers: int | None, address: str | None, again: bool,
    quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Convert the models of ZOO.toml, each in a process of its own, into FOLDER.

    FOLDER gets the files of every model, index.html with all of them, and zoo.json. A second run converts what failed
    or has changed. The exit code is 0 if all are converted, or else the lowest one that a model would end with.
    """
    if address is not None and (executor == "local" or workers is not None):
        raise click.UsageError("--address is of a dask or ray that runs already, which has its own workers")
    with finishing(debug) as stderr:
        with engine(executor, workers, address) as running, _following(stderr, quiet) as progress:
            done = convert_zoo(zoo, output, executor=running, again=again, progress=progress)
        if as_json:
            say(done.to_json())
        elif not quiet:
            say(_text(done))
        codes = [_code(STATUSES[outcome.status]) for outcome in done.outcomes if not outcome.good]
        raise SystemExit(min(codes, default=0))


def _code(error: str) -> int:
    """The exit code of an error that is called so."""
    kind = getattr(errors, error, Exception)
    return next(code for known, code in EXIT_CODES.items() if issubclass(kind, known))


@contextlib.contextmanager
def _following(stderr: TextIO, quiet: bool) -> Iterator[Callable[[Zoo, Outcome], None] | None]:
    """How many models ended, and the one that did last."""
    with bar(stderr, quiet, behind=True) as shown:
        if shown is None:
            yield None
            return

        def tell(zoo: Zoo, latest: Outcome) -> None:
            done = len(zoo.outcomes) - zoo.counts.get("waiting", 0)
            counts = ", ".join(f"{number} {status}" for status, number in zoo.counts.items())
            shown(f"{counts}; {errors.readable(latest.name)} {latest.status}", done, len(zoo.outcomes))

        yield tell


def _counts(zoo: Zoo) -> list[RenderableType]:
    from rich.text import Text

    return [Text(f"{number} {status}", _color(status)) for status, number in zoo.counts.items()]


def _text(zoo: Zoo) -> str:
    """All models and what they wait for, as wide as the terminal is if stdout is one."""
    from rich.console import Console

    terminal = sys.__stdout__ is not None and sys.__stdout__.isatty()
    width = shutil.get_terminal_size().columns if terminal else WIDTH
    console = Console(
        file=io.StringIO(), width=width, force_terminal=terminal, highlight=False, legacy_windows=False
    )
    _print(zoo, console)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]


def _print(zoo: Zoo, console: Console) -> None:
    from rich.columns import Columns
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("model", "", "verdict", "parameters", "custom", "seconds"):
        table.add_column(title, justify="right" if title in ("parameters", "custom", "seconds") else "left")
    for outcome in zoo.outcomes:
        parameters = "" if outcome.parameters is None else f"{outcome.parameters:,}"
        custom = "" if outcome.parameters is None else str(len(outcome.custom_layers))
        seconds = "before" if outcome.name in zoo.skipped else f"{outcome.seconds:.1f}"
        verdict = Text(errors.readable(outcome.verdict))
        table.add_row(
            Text(errors.readable(outcome.name), "bold"),
            _status(outcome),
            verdict,
            parameters,
            custom,
            seconds,
        )
    console.print(table)
    for wait in zoo.refused[:SHOWN]:
        many = len(wait.models)
        console.print()
        console.print(Text(f"{many} model{'s wait' if many > 1 else ' waits'} for {wait.op}", "bold"))
        for reason, names in wait.reasons.items():
            console.print(Text(f"  {errors.readable(reason)} ({', '.join(names)})"))
    console.print()
    console.print(Columns(_counts(zoo)))
    console.print(Text(f"{zoo.folder / 'index.html'} has them all"))


def _status(outcome: Outcome) -> RenderableType:
    from rich.text import Text

    return Text(outcome.status, _color(outcome.status))


def _color(status: str) -> str:
    return COLORS.get(status, "red")
