"""The rows of a report as a tree of torch modules, in which nothing is longer than one looks through."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from bridge.report.records import Row
from bridge.report.report import Report

DEPTH = 24  # of modules within modules; what is deeper is one name
LONGEST = 200  # lines of one module; more are parted into runs
RUN = 100  # lines
SHOWN = 30  # lines that are open at first


@dataclass
class Branch:
    """A torch module: its own rows with their places, and the modules below it, in the order in which they run."""

    name: str
    rows: list[tuple[int, Row]] = field(default_factory=list)
    below: dict[str, Branch] = field(default_factory=dict)
    open: bool = False

    def all_rows(self) -> Iterator[tuple[int, Row]]:
        yield from self.rows
        for branch in self.below.values():
            yield from branch.all_rows()

    def branches(self) -> Iterator[Branch]:
        """Itself and all below it."""
        yield self
        for branch in self.below.values():
            yield from branch.branches()

    @property
    def is_leaf(self) -> bool:
        """Whether it is a single row, to be shown as one line."""
        return len(self.rows) == 1 and not self.below

    @property
    def lines(self) -> int:
        return len(self.rows) + len(self.below)

    @property
    def first(self) -> int:
        return min(place for place, _ in self.all_rows())

    @property
    def error(self) -> float | None:
        """The largest error in it, if any was measured."""
        return worst(row.error for _, row in self.all_rows())

    @property
    def parameters(self) -> int:
        """Of its layers, each counted once however often it is used."""
        return sum({row.name: row.parameters for _, row in self.all_rows()}.values())


def worst(errors: Iterable[float | None]) -> float | None:
    """The largest of the errors that were measured; NaN is larger than any."""
    measured = (error for error in errors if error is not None)
    return max(measured, key=ranked, default=None)


def ranked(error: float) -> float:
    """An error by its size, NaN as one beyond all numbers."""
    return math.inf if math.isnan(error) else error


def tree(report: Report) -> Branch:
    """The rows under the modules that their paths name (`a.b` in torch, `/a/b` in many ONNX files)."""
    root = Branch(report.source)
    for place, row in enumerate(report.rows):
        branch = root
        for name in _names(row.path):
            branch = branch.below.setdefault(name, Branch(name))
        branch.rows.append((place, row))
    _join(root)
    for branch in list(root.branches()):
        _part(branch)
    _open(root, report.limit)
    return root


def _names(path: str) -> list[str]:
    names = [name for name in re.split(r"[./]", path, maxsplit=4 * DEPTH) if name]
    return names if len(names) <= DEPTH else [*names[: DEPTH - 1], ".".join(names[DEPTH - 1 :])]


def _join(branch: Branch) -> None:
    """Make one of modules of which each holds nothing but the next."""
    for name, below in list(branch.below.items()):
        while not below.rows and len(below.below) == 1:
            [inner] = below.below.values()
            below = branch.below[name] = Branch(f"{below.name}.{inner.name}", inner.rows, inner.below)
        _join(below)


def _part(branch: Branch) -> None:
    """The lines of a long module in runs of so many."""
    if branch.lines <= LONGEST:
        return
    lines = [Branch("", [row]) for row in branch.rows] + list(branch.below.values())
    lines.sort(key=lambda line: line.first)
    branch.rows, branch.below = [], {}
    for start in range(0, len(lines), RUN):
        run = Branch(f"{start + 1} – {min(start + RUN, len(lines))}")
        for number, line in enumerate(lines[start : start + RUN]):
            if line.name:
                run.below[f"{line.name} {number}"] = line
            else:
                run.rows += line.rows
        branch.below[run.name] = run


def _open(root: Branch, limit: float) -> None:
    """Open what fits into so many lines, from the top; and the way to the first row beyond the limit."""
    waiting, room = [root], SHOWN
    while waiting:
        branch = waiting.pop(0)
        room -= branch.lines
        branch.open = branch is root or room >= 0
        waiting += branch.below.values() if branch.open else ()
    departs = (place for place, row in root.all_rows() if row.error is not None and not row.error <= limit)
    for place in islice(departs, 1):
        for branch in root.branches():
            branch.open |= any(place == held for held, _ in branch.all_rows())
