"""Cases in processes of their own: bounded in memory and time, and none takes the others with it.

The workers are forked from a server that has imported the frameworks and run nothing, so that a new one in the place
of one that died costs milliseconds.
"""

from __future__ import annotations

import importlib
import multiprocessing
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

EQUAL, REFUSED, CAUGHT, WRONG, ALARM, CRASHED, HUNG, LOST, INVALID = (
    "equal refused caught wrong alarm crashed hung lost invalid".split()
)
GOOD = (EQUAL, REFUSED, CAUGHT, INVALID)
CASES = 150  # that one worker runs before another takes its place


@dataclass(frozen=True)
class Outcome:
    """How a case ended.

    equal      as it has to be
    refused    by one of `bridge`'s errors, whose text is `text`
    caught     a model that was made wrong on purpose, and the proof saw it
    wrong      not equal to its source, and nothing said so
    alarm      a conversion that ends in a mismatch
    crashed    a foreign exception, a signal, or more memory than there is for one case
    hung       longer than the time for one case
    lost       another model after saving and loading
    invalid    no case at all: what was drawn is not legal
    """

    kind: str
    text: str = ""
    seconds: float = 0.0
    mebibytes: int = 0  # the largest resident size while it ran

    @property
    def good(self) -> bool:
        return self.kind in GOOD


class Case(Protocol):
    """One draw; it can be pickled."""

    @property
    def groups(self) -> tuple[str, ...]:
        """The rows of the table in which it counts, such as its operators; asked when it has run."""

    def run(self) -> Outcome:
        """How it ends. An exception that leaves it is a crash."""

    def shrunk(self, fails: Callable[[Case], bool]) -> Case:
        """The smallest case that still `fails`."""

    def shown(self) -> str:
        """What a test can be made of."""


@dataclass(frozen=True)
class Shown:
    """A case of a module that is shown and not run, in a process of its own: drawing it runs libraries that may end
    that."""

    module: str
    seed: int
    groups: tuple[str, ...] = ()

    def run(self) -> Outcome:
        return Outcome(EQUAL, importlib.import_module(self.module).case(self.seed).shown())


@dataclass(frozen=True)
class Bounds:
    seconds: float = 60.0
    mebibytes: int = 2048  # beyond what the frameworks themselves take
    count: int = 2  # workers at once


class Workers:
    """`bounds.count` processes that run the cases of one module, by seed or as they are."""

    def __init__(self, module: str, bounds: Bounds = Bounds(), preload: Iterable[str] = ()):
        self.module, self.bounds = module, bounds
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__, *preload, module])
        self._idle: list[_Worker] = []

    def outcomes(self, asked: Iterable[Any]) -> Iterator[tuple[Any, Outcome, tuple[str, ...]]]:
        """Each of `asked` (seeds or cases), how it ended, and its groups; in the order in which they end."""
        waiting, busy = iter(asked), dict[Connection, _Worker]()
        while True:
            while len(busy) < self.bounds.count and (item := next(waiting, None)) is not None:
                worker = self._idle.pop() if self._idle else _Worker(self._context, self.module, self.bounds)
                worker.give(item)
                busy[worker.connection] = worker
            if not busy:
                return
            soonest = min(worker.deadline for worker in busy.values())
            ready = wait(list(busy), max(0.0, soonest - time.monotonic()))
            late = [c for c, w in busy.items() if c not in ready and w.deadline <= time.monotonic()]
            for connection in [*ready, *late]:
                worker = busy.pop(connection)
                outcome, groups = worker.late() if connection in late else worker.answer()
                if worker.alive and worker.served < CASES:
                    self._idle.append(worker)
                else:
                    worker.end()
                yield worker.item, outcome, groups

    def run(self, item: Any) -> Outcome:
        """How one seed or case ends."""
        return next(self.outcomes([item]))[1]

    def close(self) -> None:
        while self._idle:
            self._idle.pop().end()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Worker:
    """One process, from the side of the one that asks."""

    def __init__(self, context: Any, module: str, bounds: Bounds):
        self.connection, theirs = context.Pipe()
        self._drawn = context.RawValue("b")  # whether the case has been drawn, for which nodes are run
        given = theirs, module, bounds.mebibytes, self._drawn
        self._process = context.Process(target=_serve, args=given, daemon=True)
        self._process.start()
        theirs.close()
        self.connection.recv()  # that the imports are done
        self._seconds, self.alive, self.served = bounds.seconds, True, 0
        self.item: Any = None
        self.deadline = 0.0

    def give(self, item: Any) -> None:
        self.item, self.deadline = item, time.monotonic() + self._seconds
        self.served += 1
        self.connection.send(item)

    def answer(self) -> tuple[Outcome, tuple[str, ...]]:
        try:
            return self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.alive = False
            if not self._drawn.value:
                return Outcome(INVALID, "a process died of drawing it"), ()
            self._process.join(10)
            code = self._process.exitcode or 0
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            return Outcome(CRASHED, f"the process died: {name}"), ("(died)",)

    def late(self) -> tuple[Outcome, tuple[str, ...]]:
        self.alive = False
        return Outcome(HUNG, f"longer than {self._seconds:.0f} s", self._seconds), ("(hung)",)

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self.connection.close()


def _serve(connection: Connection, module: str, mebibytes: int, drawn: Any) -> None:
    """Run what comes until nobody asks any more."""
    kind = importlib.import_module(module)
    limit_memory(mebibytes)
    connection.send("ready")
    while True:
        try:
            item = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        connection.send(_run(kind, item, drawn))


def _run(kind: Any, item: Any, drawn: Any) -> tuple[Outcome, tuple[str, ...]]:
    start, case, drawn.value = time.perf_counter(), None, False
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
    try:
        case = kind.case(item) if isinstance(item, int) else item
        drawn.value = True
        outcome = case.run()
    except Exception as error:
        outcome = Outcome(CRASHED, crash(error))
    return replace(
        outcome, seconds=time.perf_counter() - start, mebibytes=_status("VmHWM")
    ), case.groups if case else ()


def crash(error: BaseException) -> str:
    """What a foreign exception says, and where it was raised, on one line."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/bridge/" in frame.filename] or frames
    where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
    return f"{type(error).__name__} at {where}: {' '.join(str(error).split())[:400]}"


def limit_memory(mebibytes: int) -> None:
    """Room for one case beyond what is mapped now, and for the frameworks' own threads and arenas."""
    bound = (_status("VmSize") + mebibytes + 2048) << 20
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))


def _status(name: str) -> int:
    """A line of this process's status, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith(f"{name}:"))
