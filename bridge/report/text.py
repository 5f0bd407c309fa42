"""A report as text for a terminal."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Literal, TypeVar

from rich.console import Console, Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from bridge.report.records import Row, Value
from bridge.report.report import Report
from bridge.report.tree import worst
from bridge.verification.bisect.origin import Origin
from bridge.verification.checks import Check, by_leg

WIDTH = 110
LONGEST = 60  # lines of a list that is shown whole
SHOWN = 24  # lines of a longer one


def render(report: Report, *, width: int = WIDTH, color: bool = False, full: bool = False) -> str:
    """`report` as lines of at most `width` characters; `color` adds ANSI colours, `full` shows long lists whole."""
    file = io.StringIO()
    system: Literal["truecolor"] | None = "truecolor" if color else None
    console = Console(
        file=file,
        width=width,
        force_terminal=color,
        force_jupyter=False,  # where rich would show the text, and give none
        color_system=system,
        highlight=False,
        legacy_windows=False,
    )
    console.print(renderable(report, full))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def renderable(report: Report, full: bool = True) -> Group:
    """`report` as something that rich prints."""
    return Group(*_sections(report, full))


def _sections(report: Report, full: bool) -> Iterator[RenderableType]:
    yield Rule(Text.assemble((report.source, "bold"), " → Keras"), align="left", style="dim")
    yield from _verdict(report)
    if report.origin is not None:
        yield Text()
        yield from _origin(report.origin)
    if report.rows:
        yield Text()
        rows = _folded(report.rows, full)
        yield _rows(report, rows)
        yield from _left_out(len(report.rows) - len(rows), "node", _worst(report))
    if report.refusals:
        yield Text()
        refusals = _folded(report.refusals, full)
        yield from (Text(f"✗ {refusal}", style="red") for refusal in refusals)
        yield from _left_out(len(report.refusals) - len(refusals), "refusal")
    if report.checks:
        yield Text()
        yield _legs(report)
    yield Text()
    yield _facts(report)
    if len(report.rows) + len(report.refusals) > SHOWN:  # what stands on top is out of sight
        yield Text()
        yield from _verdict(report)


T = TypeVar("T")


def _folded(lines: Sequence[T], full: bool) -> Sequence[T]:
    return lines if full or len(lines) <= LONGEST else lines[:SHOWN]


def _left_out(count: int, what: str, told: str = "") -> Iterator[Text]:
    if count:
        seen = 'save("report.txt") or to_text(full=True) shows all, --report FILE.html as a page'
        yield Text(f"… {count:,} more {what}{'s' * (count > 1)}{told}: {seen}", style="dim")


def _worst(report: Report) -> str:
    """Where the error is largest."""
    error = worst(row.error for row in report.rows)
    if error is None:
        return ""
    row = next(row for row in report.rows if row.error is error)
    return f", the largest error {error:.1e} at {row.path or row.op}"


def _verdict(report: Report) -> Iterator[Text]:
    yield Text(report.verdict, style=_verdict_style(report))
    yield Text(f"next: {report.advice}", style="dim")


def _origin(origin: Origin) -> Iterator[Text]:
    yield Text(f"departs first at {origin}", style="bold red")
    yield from (Text(f"  {line}") for line in origin.told)


def _verdict_style(report: Report) -> str:
    if report.proved and not report.untrained:
        return "bold green"
    return "bold red" if report.failed else "bold yellow"


def _rows(report: Report, rows: Sequence[Row]) -> Table:
    built = any(row.name or row.parameters for row in report.rows)
    table = _table("torch path", "ONNX", "Keras" if built else "Keras (may become)")
    if built:
        table.add_column("parameters", justify="right")
        table.add_column("error", justify="right")
    shown = None
    for row in rows:
        cells = [Text((row.path or "·") if row.path != shown else ""), Text(row.op), _layer(row)]
        if built:
            cells += [
                Text(f"{row.parameters:,}" if row.parameters else ""),
                error_text(row.error, report.limit),
            ]
        table.add_row(*cells)
        shown = row.path
    return table


def _layer(row: Row) -> Text:
    return Text.assemble((row.layer, "" if row.name else "dim"), " ", (row.name, "cyan"))


def error_text(error: float | None, limit: float) -> Text:
    """An error, green up to `limit` and red beyond."""
    if error is None:
        return Text("")
    return Text(number(error), style="green" if error <= limit else "bold red")


def number(error: float) -> str:
    return f"{error:.1e}" if error else "0"


def _legs(report: Report) -> Table:
    table = _table("compared", "in", "sizes")
    table.add_column("largest error", justify="right")
    table.add_column("limit", justify="right")
    above = None
    for (leg, dtype), checks in by_leg(report.checks).items():
        worst = max(checks, key=lambda check: check.error / check.limit)
        lines = [Text(sized(c), style="" if c.passed else "bold red") for c in checks]
        sizes = Text("as above", style="dim") if lines == above else Text("\n").join(lines)
        table.add_row(leg, dtype, sizes, error_text(worst.error, worst.limit), f"{worst.limit:.0e}")
        above = lines
    return table


def sized(check: Check) -> str:
    """The sizes and values of a check, and why nothing could be compared at them."""
    return f"{check.at}, where {check.failure}" if check.failure else check.at


def _facts(report: Report) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, lines in facts(report):
        for index, line in enumerate(lines):
            table.add_row("" if index else name, Text(line))
    return table


def facts(report: Report) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What there is to say beyond the tables, by name."""
    yield "inputs", tuple(map(str, report.inputs))
    yield "outputs", tuple(map(_shape, report.outputs))
    if report.backend:
        yield (
            "parameters",
            (f"{report.trainable:,} trainable{in_torch(report)}, {report.non_trainable:,} not trainable",),
        )
        yield "transposes", (str(report.transposes),) if report.rows else ()
        custom = (
            f"{name} ({report.custom_reasons.get(name, 'of our own')})" for name in report.custom_layers
        )
        yield "custom layers", tuple(custom) or ("none: loads with plain Keras",)
    yield "notes", report.notes
    if report.seconds:
        counts = {stage: f" ({count:,} nodes)" for stage, count in report.nodes.items()}
        stages = ", ".join(f"{stage} {s:.2f} s{counts.get(stage, '')}" for stage, s in report.seconds.items())
        yield "time", (f"{stages}; {sum(report.seconds.values()):.2f} s in all",)
    if report.checks:
        drawn = "; ".join(f"{value.name} {value.drawn}" for value in report.inputs if value.drawn)
        yield "drawn with", (f"seed {report.seed}{': ' * bool(drawn)}{drawn}",)
    if report.backend:
        versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
        yield "made with", (f"Keras on {report.backend}; {versions}",)


def _shape(value: Value) -> str:
    """An output with its sizes, which follow from those of the inputs."""
    sizes = (axis.name if axis.size is None else str(axis.size) for axis in value.axes)
    return f"{value.name}: ({', '.join(sizes)})"


def in_torch(report: Report) -> str:
    """What torch counts, beside Keras's trainable parameters."""
    if report.source_parameters is None:
        return ""
    if report.summed and report.trainable + report.summed == report.source_parameters:
        return f" (torch: {report.source_parameters:,}, of which {report.summed:,} are second biases)"
    return f" (torch: {report.source_parameters:,})"


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold dim", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
