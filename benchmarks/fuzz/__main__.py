"""`python -m benchmarks.fuzz graphs|files|modules|clean|mutants --n N --seed S`: how N random cases end.

The exit code is 1 if one of them failed.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import IO

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.fuzz.workers import (
    ALARM,
    CAUGHT,
    CRASHED,
    EQUAL,
    HUNG,
    INVALID,
    LOST,
    REFUSED,
    WRONG,
    Bounds,
    Case,
    Outcome,
    Shown,
    Workers,
)
from benchmarks.timing import one_thread

KINDS = (EQUAL, REFUSED, CAUGHT, WRONG, ALARM, CRASHED, HUNG, LOST, INVALID)
Ended = tuple[int, Outcome, tuple[str, ...]]


@click.command()
@click.argument("kind", type=click.Choice(["graphs", "files", "modules", "clean", "mutants"]))
@click.option("--n", "count", default=1000, show_default=True, help="How many cases.")
@click.option("--seed", default=0, show_default=True, help="Case k has the seed SEED * 1,000,000 + k.")
@click.option("--from", "first", default=0, show_default=True, help="The first k.")
@click.option("--workers", default=2, show_default=True, help="Processes at once.")
@click.option("--seconds", default=60.0, show_default=True, help="For one case.")
@click.option("--mebibytes", default=2048, show_default=True, help="For one case.")
@click.option("--shrink", default=10, show_default=True, help="How many failures to shrink and show.")
@click.option(
    "--log", type=click.File("a"), help="One line of JSON for each case, with the case where it failed."
)
def main(
    kind: str, count: int, seed: int, first: int, workers: int, seconds: float, mebibytes: int, shrink: int,
    log: IO[str] | None,
) -> None:  # fmt: skip
    """How COUNT random cases end."""
    one_thread()
    console, start = Console(), time.monotonic()
    bounds = Bounds(seconds, mebibytes, workers)
    with Workers(f"benchmarks.fuzz.{kind}", bounds, preload=("keras", "tensorflow", "onnxruntime")) as pool:
        seeds = range(seed * 1_000_000 + first, seed * 1_000_000 + first + count)
        ended = list(_watched(pool, seeds, console, _logged(kind, pool, log)))
        console.print(_by_group(ended))
        console.print(_reasons(ended))
        if kind == "mutants":
            from benchmarks.fuzz.mutants import totals

            console.print(totals(outcome for _, outcome, _ in ended))
        console.print(f"{len(ended)} {kind} of seed {seed} from {first} in {time.monotonic() - start:.0f} s")
        failed = [item for item in ended if not item[1].good]
        for case_seed, outcome, _ in failed[:shrink]:
            _show(pool, kind, case_seed, outcome, console)
    sys.exit(bool(failed))


def _watched(
    pool: Workers, seeds: range, console: Console, logged: Callable[[Ended], None]
) -> Iterator[Ended]:
    """Every case as it ends, each failure told at once."""
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("cases", total=len(seeds))
        for seed, outcome, groups in pool.outcomes(seeds):
            progress.advance(task)
            if not outcome.good:
                console.print(f"{seed}: {outcome.kind}: {outcome.text}", markup=False, highlight=False)
            logged((seed, outcome, groups))
            yield seed, outcome, groups


def _logged(kind: str, pool: Workers, log: IO[str] | None) -> Callable[[Ended], None]:
    """What writes a case into `log`; a failed one whole, since its seed draws another once there is more to draw."""

    def write(ended: Ended) -> None:
        seed, outcome, groups = ended
        if log is not None:
            case = {} if outcome.good else {"case": pool.run(Shown(f"benchmarks.fuzz.{kind}", seed)).text}
            log.write(json.dumps({"seed": seed, "groups": groups, **vars(outcome), **case}) + "\n")
            log.flush()

    return write


def _cases(kind: str) -> Callable[[int], Case]:
    """The draw of a kind, by seed."""
    return importlib.import_module(f"benchmarks.fuzz.{kind}").case


def _show(pool: Workers, kind: str, seed: int, outcome: Outcome, console: Console) -> None:
    """The smallest case that ends as this one, as a test can take it."""
    alike = (WRONG, ALARM) if outcome.kind in (WRONG, ALARM) else (outcome.kind,)
    small = _cases(kind)(seed).shrunk(lambda case: pool.run(case).kind in alike)
    console.print(
        f"\n{seed} {outcome.kind}: {pool.run(small).text}\n{small.shown()}", markup=False, highlight=False
    )


def _by_group(ended: list[Ended]) -> Table:
    """The groups not all of whose cases are equal, and the sum."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for _, outcome, groups in ended:
        for group in {*groups, "all"}:
            counts[group][outcome.kind] += 1
    table = Table(*("group", *KINDS, "refused %"), box=None, header_style="bold")
    wanted = {group for group, found in counts.items() if set(found) - {EQUAL, INVALID}} | {"all"}
    for group in sorted(wanted, key=lambda group: (group == "all", group)):
        found = counts[group]
        share = 100 * found[REFUSED] / max(1, found.total() - found[INVALID])
        table.add_row(group, *(str(found[kind] or "·") for kind in KINDS), f"{share:.1f}")
    return table


def _reasons(ended: list[Ended]) -> Table:
    """Refusals by what they say, numbers and names left out."""
    texts = (outcome.text for _, outcome, _ in ended if outcome.kind == REFUSED)
    counts = Counter(re.sub(r"[\d.,\[\]]+|\b[a-z]{1,2}\d*\b", "…", text)[:100] for text in texts)
    table = Table("refused", "because", box=None, header_style="bold")
    for text, number in counts.most_common(40):
        table.add_row(str(number), text.replace("[", "\\["))
    return table


if __name__ == "__main__":
    main()
