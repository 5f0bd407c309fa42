"""One job, from the side of whoever runs it: a process that is bounded in time, whose death is an outcome too."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from bridge.batch.jobs import Job
from bridge.batch.outcomes import Outcome, lost
from bridge.errors import ProcessError, short_message
from bridge.processes import Ended, Process


def run(job: Job) -> Outcome:
    """Convert the model of a job in a process of its own and wait for that: what an executor is given."""
    start = time.monotonic()
    with tempfile.TemporaryFile() as complaints:
        try:
            with _RUNNING.one(job, complaints) as process:
                told = process.ask({"parent": os.getpid(), "job": dataclasses.asdict(job)}, job.timeout)
                outcome = Outcome.of(told)
        except Ended as ended:
            outcome = lost(job.name, job.source, ProcessError(_why(ended, job)))
        except OSError as error:
            outcome = lost(job.name, job.source, ProcessError(f"no process for it: {short_message(error)}"))
    return dataclasses.replace(outcome, seconds=round(time.monotonic() - start, 2))


def _why(ended: Ended, job: Job) -> str:
    if ended.late:
        return f"it took longer than {job.timeout:g} s (timeout)"
    memory = f"; it may take {job.options['memory']} of memory" if job.memory is not None else ""
    last = f": {ended.last}" if ended.last else ""
    if ended.code >= 0:
        return f"its process ended with code {ended.code}{memory}{last}"
    name = signal.Signals(-ended.code).name if -ended.code in set(signal.Signals) else str(ended.code)
    want = ", as the system does for want of memory" if name == "SIGKILL" else ""
    return f"its process died of {name}{want}{memory}{last}"


class _Running:
    """The processes of jobs that run in this one."""

    def __init__(self) -> None:
        self._processes: set[Process] = set()
        self._lock, self._stopped = threading.Lock(), False

    @contextlib.contextmanager
    def one(self, job: Job, complaints: IO[bytes]) -> Iterator[Process]:
        """The process of a job, for as long as the context is open."""
        process = Process(
            "bridge.batch.child",
            complaints=complaints,
            environment={"TF_CPP_MIN_LOG_LEVEL": "3"},
            folder=Path(job.folder),
            session=True,
        )
        try:
            with self._lock:
                self._processes.add(process)
                if self._stopped:
                    process.end()
            yield process
        finally:
            process.close()
            with self._lock:
                self._processes.discard(process)

    @contextlib.contextmanager
    def stopping(self) -> Iterator[None]:
        """Where that is left by an exception, those that run end, and those that start meanwhile."""
        self._stopped = False
        try:
            yield
        except BaseException:
            with self._lock:
                self._stopped = True
                for process in self._processes:
                    process.end()
            raise


_RUNNING = _Running()
stopping = _RUNNING.stopping
