"""Whether the proof sees a wrong product: a random graph is converted while one line of `bridge` is switched wrong.

A switch is thrown on a line that the conversion of the graph runs through. The model that is made then is compared with
the source here, by no code that is switched: one that is not equal has to end in a mismatch (`caught`), or else it is a
hole in the proof (`wrong`). One that is equal all the same is harmless (`equal`); a switch that stops the conversion
makes no model (`refused`).

A case is one switch; `SWITCHES` cases in a row share a graph. In the table a case counts for the function switched, and
for whether the report blames the stage that the function belongs to.
"""

from __future__ import annotations

import functools
import itertools
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import onnx.parser

from benchmarks.fuzz import graphs
from benchmarks.fuzz.draft import Input, model_of
from benchmarks.fuzz.switches import Line, Switch, switches, traced
from benchmarks.fuzz.workers import CAUGHT, EQUAL, INVALID, REFUSED, WRONG, Outcome
from bridge.errors import BridgeError, InternalError, Mismatch
from bridge.report import ORT_KERAS, SIMPLIFIED, TORCH_KERAS, TORCH_ORT

SWITCHES = 10  # of one graph
GRAPHS = 4  # drawn for each that is taken
SECONDS = 20  # for one conversion
LEARNING = "cast decide fold sequence".split()  # passes that are steps of another
STAGES = {  # the beginning of a file's name: what a report has to say of a fault in it
    "frontend/onnx_": (SIMPLIFIED, "raising the opset"),
    "frontend/torch_": (TORCH_ORT,),
    **{f"passes/{name}": (SIMPLIFIED, "pass know") for name in LEARNING},
    "passes/infer": (),  # sizes are used by everybody
    "passes/slice_shapes": (),
    "passes/window_shapes": (),
    "passes/": (SIMPLIFIED, "pass "),
    "ops/": ((ORT_KERAS, TORCH_KERAS),),
    "build": ((ORT_KERAS, TORCH_KERAS),),
    "layers": ((ORT_KERAS, TORCH_KERAS),),
}


class Subject(Protocol):
    """What is converted, and compared by other means than those of the proof."""

    def wanted(self) -> Any:
        """What the source gives; None where it does not run."""

    def converted(self, verify: bool = True) -> Any:
        """`bridge.convert` of it."""

    def fault(self, converted: Any, wanted: Any) -> str:
        """What differs, or nothing."""

    def shown(self) -> str:
        """What a test can be made of."""


@dataclass
class Mutant:
    """A subject by its seed, and which of its switches is thrown."""

    make: Callable[[int], Subject]
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
        subject, wanted, thrown = _sound(self.make, self.seed)
        if self.number >= len(thrown):
            return Outcome(INVALID, "nothing to switch")
        self.switch = thrown[self.number]
        with self.switch.thrown(), _bounded(SECONDS):
            found = _ended(subject, wanted)
        if found.kind == CAUGHT:
            self.blame = _blamed(self.switch, found.text)
        return Outcome(found.kind, f"{self.switch}: {found.text}")

    def shrunk(self, fails: Callable[[Any], bool]) -> Mutant:
        return self

    def shown(self) -> str:
        return _sound(self.make, self.seed)[0].shown()


def case(seed: int) -> Mutant:
    return Mutant(graph, *divmod(seed, SWITCHES))


def graph(seed: int) -> graphs.Graph:
    """Of some graphs the one of most nodes and weights."""
    drawn = map(graphs.case, range(GRAPHS * seed, GRAPHS * (seed + 1)))
    return max(drawn, key=lambda graph: len(graph.model.graph.node) + 2 * len(graph.model.graph.initializer))


def _ended(subject: Subject, wanted: Any) -> Outcome:
    """How the conversion of `subject` ends: whether the model is wrong, and whether the proof says so."""
    try:
        fault = subject.fault(subject.converted(verify=False), wanted)
    except Exception as error:
        return Outcome(REFUSED, _said(error))
    if not fault:
        return Outcome(EQUAL)
    try:
        subject.converted()
    except Mismatch as error:
        return Outcome(CAUGHT, error.report.blame)
    except BridgeError as error:
        return Outcome(REFUSED, _said(error))
    return Outcome(WRONG, fault)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


@functools.lru_cache(maxsize=1)
def _sound(make: Callable[[int], Subject], seed: int) -> tuple[Subject, Any, list[Switch]]:
    """The subject, what it gives, and its switches; none where it does not come out right as it is."""
    subject = make(seed)
    wanted = subject.wanted()
    try:
        lines, right = _lines(subject)
        if wanted is None or subject.fault(right, wanted):
            return subject, wanted, []
        subject.converted()
    except BridgeError:
        return subject, wanted, []
    return subject, wanted, list(itertools.islice(switches(lines - _common(), seed), SWITCHES))


def _lines(subject: Subject) -> tuple[set[Line], Any]:
    """What a conversion runs through, and what it gives."""
    lines = set[Line]()
    with traced(lines):
        return lines, subject.converted(verify=False)


@functools.cache
def _common() -> set[Line]:
    """The lines that the conversion of any graph runs through."""
    graph = onnx.parser.parse_graph("g (float[N, 4] x) => (float[N, 4] y) { y = Relu (x) }")
    proto = model_of(graph, max(graphs.OPSETS))
    return _lines(graphs.Graph(proto.SerializeToString(), {"x": Input("float32", ["n_3", 4], None)}, 0))[0]


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
