"""Whether the proof sees a wrong product: a subject is converted while one expression of `bridge` is switched wrong.

A switch is thrown on a line that the conversion of the subject runs through. The model that is made then is compared
with the source here, by no code that is switched: one that is not equal has to end in a mismatch (`caught`), or else
it is a hole in the proof (`wrong`). One that is equal all the same is harmless (`equal`); a switch that stops the
conversion makes no model (`refused`).

A case is one switch; `SWITCHES` cases in a row share a subject (`subjects.py`). In the table a case counts for the
function switched, and for whether the report blames the stage that the function belongs to.
"""

from __future__ import annotations

import functools
import itertools
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import onnx.parser
from rich.table import Table

from benchmarks.fuzz import graphs
from benchmarks.fuzz.draft import Input, model_of
from benchmarks.fuzz.subjects import KINDS, Kind, Subject
from benchmarks.fuzz.switches import Line, Switch, forget, switches, traced
from benchmarks.fuzz.workers import CAUGHT, EQUAL, INVALID, REFUSED, WRONG, Outcome
from bridge.errors import BridgeError, InternalError, MismatchError, WeightsError
from bridge.verification.checks import (
    BACK,
    DROPOUT,
    GRADIENTS,
    ORT_KERAS,
    STATISTICS,
    STEPS,
    TORCH_KERAS,
    TORCH_ORT,
)

SWITCHES = 10  # of one subject
SECONDS = 45  # for the conversions of one
IS = " ⇒ "  # between a switch and what came of it
# Passes that are steps of another
LEARNING = "resolve_casts resolve_branches fold_constants sequence_to_split compress_to_gather".split()
TRAINED = (BACK, DROPOUT, GRADIENTS, STEPS, STATISTICS)
KERAS = (ORT_KERAS, TORCH_KERAS, *TRAINED)
STAGES = {  # the beginning of a file's name: what a report has to say of a fault in it, one of several
    "frontend/onnx/": ("raising the opset",),
    "frontend/torch/ranges": (),  # sizes are used by everybody
    "frontend/torch/": ((TORCH_ORT, *TRAINED),),
    **{f"passes/{name}": ("pass infer_and_fold",) for name in LEARNING},
    "passes/infer_shapes": (),
    "passes/slice_shapes": (),
    "passes/window_shapes": (),
    "passes/": ("pass ",),
    "ops/": (KERAS,),
    "build": (KERAS,),
    "layers": (KERAS,),
}


@dataclass
class Mutant:
    """A subject by its seed, and which of its switches is thrown."""

    kind: Kind
    seed: int
    number: int
    switch: Switch | None = None
    blame: str = ""

    @property
    def groups(self) -> tuple[str, ...]:
        if self.switch is None:
            return ()
        function = f"{self.switch.file} {self.switch.name}"
        return (function, *([f"(blame {self.blame})"] if self.blame else []))

    def run(self) -> Outcome:
        subject, wanted, thrown = _sound(self.kind, self.seed)
        if self.number >= len(thrown):
            return Outcome(INVALID, "nothing to switch")
        self.switch = thrown[self.number]
        with self.switch.thrown(), _bounded(SECONDS):
            found = _ended(subject, wanted)
        if found.kind == CAUGHT:
            self.blame = _blamed(self.switch, found.text)
        return Outcome(found.kind, f"{self.switch}{IS}{found.text}")

    def shrunk(self, fails: Callable[[Any], bool]) -> Mutant:
        return self

    def shown(self) -> str:
        return _sound(self.kind, self.seed)[0].shown()


def case(seed: int) -> Mutant:
    """Of the kinds of subjects in turn."""
    subject, number = divmod(seed, SWITCHES)
    return Mutant(KINDS[subject % len(KINDS)], subject, number)


def totals(outcomes: Iterable[Outcome]) -> Table:
    """Of every file the switches that were thrown, none counted twice, and how many of the wrong models were caught."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for outcome in outcomes:
        switch, thrown, _ = outcome.text.partition(IS)
        if thrown:
            for name in (switch.partition(":")[0], "all"):
                found[name][outcome.kind].add(switch)
    table = Table("file", "switches", "wrong models", "caught", box=None, header_style="bold")
    for name in sorted(found, key=lambda name: (name == "all", name)):
        kinds = found[name]
        missed = set().union(
            *(those for kind, those in kinds.items() if kind not in (EQUAL, REFUSED, CAUGHT))
        )
        numbers = len(set().union(*kinds.values())), len(kinds[CAUGHT] | missed), len(kinds[CAUGHT] - missed)
        table.add_row(name, *map(str, numbers))
    return table


def _ended(subject: Subject, wanted: Any) -> Outcome:
    """How the conversion of `subject` ends: whether the model is wrong, and whether the proof says so."""
    try:
        made = subject.converted(verify=False)
    except Exception as error:
        return Outcome(REFUSED, _said(error))
    try:
        fault = subject.fault(made, wanted)
    except WeightsError as error:  # it says so itself
        return Outcome(REFUSED, _said(error))
    except Exception as error:  # what was made is of no use
        fault = _said(error)
    if not fault:
        return Outcome(EQUAL)
    try:
        subject.converted()
    except MismatchError as error:
        return Outcome(CAUGHT, error.report.first_mismatch)
    except BridgeError as error:
        return Outcome(REFUSED, _said(error))
    return Outcome(WRONG, fault)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


@functools.lru_cache(maxsize=1)
def _sound(kind: Kind, seed: int) -> tuple[Subject, Any, list[Switch]]:
    """The subject, what it gives, and its switches; none where it does not come out right as it is."""
    subject = kind.make(seed)
    wanted = subject.wanted()
    try:
        if wanted is None:
            return subject, wanted, []
        lines, fault = _lines(subject, wanted)
        if fault:
            return subject, wanted, []
        subject.converted()
    except BridgeError:
        return subject, wanted, []
    thrown = switches(lines - _common(), seed, kind.files)
    return subject, wanted, list(itertools.islice(thrown, SWITCHES))


def _lines(subject: Subject, wanted: Any) -> tuple[set[Line], str]:
    """What a conversion, and the use of what it gives, run through; and what is wrong with that."""
    for name, module in list(sys.modules.items()):
        if name.startswith("bridge."):
            forget(vars(module))
    lines = set[Line]()
    with traced(lines):
        return lines, subject.fault(subject.converted(verify=False), wanted)


@functools.cache
def _common() -> set[Line]:
    """The lines that the conversion of any graph runs through."""
    graph = onnx.parser.parse_graph("g (float[N, 4] x) => (float[N, 4] y) { y = Relu (x) }")
    proto = model_of(graph, max(graphs.OPSETS))
    plain = graphs.Graph(proto.SerializeToString(), {"x": Input("float32", ["n_3", 4], None)}, 0)
    return _lines(plain, plain.wanted())[0]


def _blamed(switch: Switch, blame: str) -> str:
    """Whether a report blames the stage that was switched."""
    wanted = next((words for name, words in STAGES.items() if switch.file.startswith(name)), ())
    for words in wanted:
        if not any(word in blame for word in ([words] if isinstance(words, str) else words)):
            return f"wrong, {switch.file.partition('/')[0]}"
    return "right" if wanted else "open"


@contextmanager
def _bounded(seconds: float) -> Iterator[None]:
    """Raises `InternalError` in what is switched so that it does not end."""

    def ring(*_: Any) -> None:
        raise InternalError("does not end")

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
