"""A report as one self-contained HTML page: the proof, the module tree coloured by error, the weights."""

from __future__ import annotations

import functools
import html
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources

import jinja2

from bridge.report.report import Report, Row
from bridge.report.text import facts, sized
from bridge.verification.checks import LEGS, Check

LEVELS = (  # class, largest error as a part of the limit, what the legend says
    ("close", 1e-2, "at most a hundredth of the limit"),
    ("good", 1e-1, "at most a tenth"),
    ("near", 1.0, "within the limit"),
    ("off", math.inf, "beyond it"),
)
UNKNOWN = "unknown"


def render(report: Report) -> str:
    """`report` as the text of an HTML page."""
    return _template().render(
        report=report,
        tree=tree(report),
        lanes=list(_lanes(report)),
        legs=LEGS,
        facts=[(name, lines) for name, lines in facts(report) if lines],
        levels=LEVELS,
        level=functools.partial(level, limit=report.limit),
        number=number,
        sized=sized,
    )


def in_a_frame(report: Report) -> str:
    """The page in a frame of its own, for a page that has styles of its own."""
    title, page = html.escape(report.source), html.escape(render(report))
    return f'<iframe title="{title}" srcdoc="{page}" style="width: 100%; height: 40em; border: 0"></iframe>'


@functools.cache
def _template() -> jinja2.Template:
    text = resources.files("bridge.report").joinpath("report.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(text)


def number(error: float | None) -> str:
    if error is None:
        return "–"
    return f"{error:.1e}" if error else "0"


def level(error: float | None, limit: float) -> str:
    """The class of an error, by its part of the limit."""
    if error is None:
        return UNKNOWN
    return next((name for name, part, _ in LEVELS if error <= part * limit), "off")


# --- the module tree ----------------------------------------------------------------------------------------


@dataclass
class Branch:
    """A torch module: its own rows, and the modules below it, in the order in which they run."""

    name: str
    rows: list[Row] = field(default_factory=list)
    below: dict[str, Branch] = field(default_factory=dict)

    def all_rows(self) -> Iterator[Row]:
        yield from self.rows
        for branch in self.below.values():
            yield from branch.all_rows()

    @property
    def is_leaf(self) -> bool:
        """Whether it is a single row, to be shown as one line."""
        return len(self.rows) == 1 and not self.below

    @property
    def error(self) -> float | None:
        """The largest error in it, if any was measured."""
        return max((row.error for row in self.all_rows() if row.error is not None), default=None)

    @property
    def parameters(self) -> int:
        """Of its layers, each counted once however often it is used."""
        return sum({row.name: row.parameters for row in self.all_rows()}.values())


def tree(report: Report) -> Branch:
    """The rows under the modules that their paths name (`a.b` in torch, `/a/b` in many ONNX files)."""
    root = Branch(report.source)
    for row in report.rows:
        branch = root
        for name in filter(None, re.split(r"[./]", row.path)):
            branch = branch.below.setdefault(name, Branch(name))
        branch.rows.append(row)
    return root


# --- errors on a logarithmic scale --------------------------------------------------------------------------


@dataclass(frozen=True)
class Lane:
    """The checks of one leg in one dtype, each with its place between 0 and 100."""

    leg: str
    dtype: str
    limit: float
    limit_at: float
    checks: tuple[tuple[float, Check], ...]

    @property
    def worst(self) -> float:
        return max(check.error for _, check in self.checks)

    @property
    def passed(self) -> bool:
        return all(check.passed for _, check in self.checks)


def _lanes(report: Report) -> Iterator[Lane]:
    legs: dict[tuple[str, str], list[Check]] = {}
    for check in report.checks:
        legs.setdefault((check.name, check.dtype), []).append(check)
    for (leg, dtype), checks in legs.items():
        limit = max(check.limit for check in checks)
        placed = tuple((_place(check.error, check.limit), check) for check in checks)
        yield Lane(leg, dtype, limit, _place(limit, limit), placed)


def _place(error: float, limit: float) -> float:
    """Where an error lies on a scale from a hundred-thousandth of the limit to a hundred times the limit."""
    part = math.log10(error / limit) if 0 < error < math.inf else -math.inf if not error else math.inf
    return round(100 * (min(max(part, -5.0), 2.0) + 5) / 7, 1)
