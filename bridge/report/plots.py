"""Errors on a logarithmic scale: each leg beside its limit, and those of all nodes along the network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from bridge.report.report import Report
from bridge.report.tree import ranked, worst
from bridge.verification.checks import Check, by_leg

LEVELS = (  # class, largest error as a part of the limit, what the legend says
    ("close", 1e-2, "at most a hundredth of the limit"),
    ("good", 1e-1, "at most a tenth"),
    ("near", 1.0, "within the limit"),
    ("off", math.inf, "beyond it"),
)
UNKNOWN = "unknown"
# Half a step of the last bit, next to one
FLOORS = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float64": 2.0**-53}
FLOOR_FLOAT32 = 2.0**-24
COLUMNS = 600  # of the plot; where there are more nodes, each column shows the largest error of several


def level(error: float | None, limit: float) -> str:
    """The class of an error, by its part of the limit."""
    if error is None:
        return UNKNOWN
    return next((name for name, part, _ in LEVELS if error <= part * limit), "off")


# --- the legs -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lane:
    """The checks of one leg in one dtype, each with its place between 0 and 100."""

    leg: str
    dtype: str
    limit: float
    limit_at: float
    checks: tuple[tuple[float, Check], ...]

    @property
    def worst(self) -> float | None:
        return worst(check.error for _, check in self.checks)

    @property
    def passed(self) -> bool:
        return all(check.passed for _, check in self.checks)


def lanes(report: Report) -> Iterator[Lane]:
    for (leg, dtype), checks in by_leg(report.checks).items():
        limit = max(check.limit for check in checks)
        placed = tuple((_beside(check.error, check.limit), check) for check in checks)
        yield Lane(leg, dtype, limit, _beside(limit, limit), placed)


def _beside(error: float, limit: float) -> float:
    """Where an error lies on a scale from a hundred-thousandth of the limit to a hundred times the limit."""
    return _place(error, (limit or 1.0) * 1e-5, (limit or 1.0) * 1e2)


def _place(error: float, low: float, high: float) -> float:
    """Where an error lies between `low`, 0, and `high`, 100."""
    if math.isnan(error) or error >= high:
        return 100.0
    return round(100 * math.log10(error / low) / math.log10(high / low), 1) if error > low else 0.0


# --- along the network --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Point:
    """The largest error of the nodes in one column; `x` and `y` between 0 and 100, `y` from below."""

    place: int  # of its row
    x: float
    y: float
    level: str


@dataclass(frozen=True)
class Profile:
    """The errors of all nodes in the order in which they run."""

    points: tuple[Point, ...]
    lines: tuple[tuple[float, str, str], ...]  # height, class and text of what is drawn across
    ticks: tuple[tuple[float, str], ...]

    @property
    def dots(self) -> dict[str, str]:
        """The path of each level's dots in a box of 1000 by 100."""
        paths: dict[str, str] = {}
        for point in self.points:
            paths[point.level] = paths.get(point.level, "") + f"M{point.x * 10:.1f} {100 - point.y:.1f}h0"
        return paths


def profile(report: Report) -> Profile | None:
    """None where no node was compared."""
    measured = [(place, row.error) for place, row in enumerate(report.rows) if row.error is not None]
    if not measured:
        return None
    floor = FLOORS.get(report.dtype, FLOOR_FLOAT32)
    finite = [error for _, error in measured if 0 < error < math.inf]
    low = 10.0 ** math.floor(math.log10(floor / 10))
    high = 10.0 ** math.ceil(math.log10(max([report.limit * 10, *finite])))
    columns: dict[int, tuple[int, float]] = {}
    for place, error in measured:
        column = place * min(COLUMNS, len(report.rows)) // len(report.rows)
        if column not in columns or worst((columns[column][1], error)) is error:
            columns[column] = place, error
    points = tuple(
        Point(p, round(100 * (p + 0.5) / len(report.rows), 2), _place(e, low, high), level(e, report.limit))
        for p, e in columns.values()
    )
    lines = (
        (_place(report.limit, low, high), "limit", f"limit {report.limit:.0e}"),
        (_place(floor, low, high), "floor", f"one rounding in {report.dtype}"),
    )
    powers = range(round(math.log10(low)), round(math.log10(high)) + 1)
    step = max(1, len(powers) // 5)
    return Profile(points, lines, tuple((_place(10.0**p, low, high), f"1e{p}") for p in powers[::step]))


def largest(report: Report, count: int = 8) -> list[int]:
    """The places of the rows that are off most."""
    measured = [place for place, row in enumerate(report.rows) if row.error]
    measured.sort(key=lambda place: -ranked(report.rows[place].error or 0.0))
    return measured[:count]
