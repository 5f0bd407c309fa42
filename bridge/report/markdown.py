"""A report as Markdown, as GitHub shows it: a summary for a pull request or a job. Names of a model are text only."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence

from bridge.report.plots import largest
from bridge.report.report import Report
from bridge.report.text import number
from bridge.report.verdict import repeat
from bridge.verification.checks import by_leg

LONGEST = 300  # characters of a sentence
LINES = 20  # of a list
SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~@-])")


def render(report: Report) -> str:
    """`report` as Markdown."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    sign = "✅" if report.proved and not report.untrained else "❌" if report.failed else "⚠️"
    yield f"### {sign} {said(report.source)} → Keras"
    yield ""
    for line in report.verdict.splitlines():
        yield f"**{said(line)}**"
        yield ""
    yield f"Next: {said(report.advice)}"
    if report.origin is not None:
        yield ""
        yield f"Departs first at **{said(str(report.origin))}**"
        yield ""
        yield from (f"- {said(line)}" for line in report.origin.told)
    if report.refusals:
        yield ""
        yield from (f"- {said(refusal)}" for refusal in report.refusals[:LINES])
        left = len(report.refusals) - LINES
        yield from [f"- … {left} more"] if left > 0 else []
    if report.checks:
        yield ""
        yield from _table(("compared", "in", "at", "largest error", "limit"), _legs(report))
    yield from _nodes(report)
    yield ""
    yield f"Once more: <code>{html.escape(repeat(report))}</code>"


def _legs(report: Report) -> Iterator[Sequence[str]]:
    for (leg, dtype), checks in by_leg(report.checks).items():
        worst = max(checks, key=lambda check: check.error / check.limit)
        sign = "" if all(check.passed for check in checks) else " ❌"
        at = f"{len(checks)} sizes and values" if len(checks) > 1 else worst.at
        yield said(leg) + sign, dtype, said(at), number(worst.error), f"{worst.limit:.0e}"


def _nodes(report: Report) -> Iterator[str]:
    """Those with the largest errors, folded."""
    rows = [report.rows[place] for place in largest(report)]
    if not rows:
        return
    yield ""
    yield "<details><summary>largest errors of nodes</summary>"
    yield ""
    cells = ((said(r.path or "·"), said(r.op), said(r.name or r.layer), number(r.error or 0.0)) for r in rows)
    yield from _table(("torch path", "ONNX", "Keras", "error"), cells)
    yield ""
    yield "</details>"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{'--|' * len(heads)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def said(text: str) -> str:
    """`text` on one line, in which nothing is markup."""
    flat = " ".join(text.split())
    flat = flat if len(flat) <= LONGEST else f"{flat[: LONGEST - 1]}…"
    return SPECIAL.sub(r"\\\1", html.escape(flat, quote=False))
