"""A module of ours in a process of its own, which is asked by lines of its standard input and answers by lines. What
frameworks print there, also to standard output, goes to a file of complaints."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[1]  # where `bridge` is imported from
TAIL = 1 << 16  # bytes of complaints in which the last line is looked for


class Ended(Exception):
    """A process ended before it answered, with this `code` (less than zero: by that signal), `late` if it was ended
    because it took longer than it may. `last` is the last line of its complaints."""

    def __init__(self, code: int, last: str, late: bool):
        self.code, self.last, self.late = code, last, late
        super().__init__(last)


class Process:
    """`python -m module arguments`, in `folder`; in a `session` of its own no key of the terminal reaches it, and what
    it starts ends with it."""

    def __init__(
        self, module: str, *arguments: str, complaints: IO[bytes], environment: Mapping[str, str] | None = None,
        folder: Path | None = None, session: bool = False,
    ):  # fmt: skip
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._complaints, self._late = complaints, False
        self._session = session and hasattr(os, "killpg")  # Windows has none
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            encoding="utf-8",
            env={**os.environ, **(environment or {}), "PYTHONPATH": os.pathsep.join(paths)},
            cwd=folder,
            start_new_session=session,
        )

    def ask(self, question: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Its answer; raises `Ended`. It is ended if it takes longer than that many `seconds`."""
        process = self._process
        assert process.stdin is not None  # as of a pipe
        assert process.stdout is not None
        end = threading.Timer(min(seconds, threading.TIMEOUT_MAX), self._end_late)
        end.start()
        try:
            print(json.dumps(question), file=process.stdin, flush=True)
            line = process.stdout.readline()
        except OSError:  # it has ended
            line = ""
        finally:
            end.cancel()
        if line:
            return json.loads(line)
        code = process.wait()
        self.end()
        raise Ended(code, self._last_complaint(), self._late)

    def end(self) -> None:
        """End it, and in a session of its own whatever it has started."""
        if self._session:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()

    def close(self) -> None:
        """End it, if it has not ended."""
        if self._process.returncode is None:  # its number is its own until then
            self.end()
        self._process.communicate()

    def _end_late(self) -> None:
        self._late = True
        self.end()

    def _last_complaint(self) -> str:
        self._complaints.seek(-min(TAIL, self._complaints.seek(0, os.SEEK_END)), os.SEEK_CUR)
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


def questions() -> Iterator[tuple[dict[str, Any], IO[str]]]:
    """In such a process, what it is asked, and where the answer is printed, as one line."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    asked = os.fdopen(os.dup(sys.stdin.fileno()), encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), sys.stdin.fileno())
    for line in asked:
        yield json.loads(line), answers
