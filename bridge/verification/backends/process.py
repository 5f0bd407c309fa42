"""A saved Keras model on another backend, as a function of numpy arrays: Keras has one backend in each process, so that
the model runs in one of its own (`worker.py`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from bridge.errors import NotRun
from bridge.graph import structure
from bridge.verification.backends.arrays_on_disk import read, write
from bridge.verification.metrics import Arrays

SECONDS = 600.0  # that one run may take, the first with the loading of the framework
ROOT = Path(__file__).parents[2]  # where `bridge` is imported from


class BackendProcess:
    """The model in a `.keras` file, loaded in safe mode on `backend`, for as long as the context is open. Arrays travel
    through files in `room`, a folder for this process alone; `outputs` say where in what the model gives each output
    is, as for `keras_call`. Raises `NotRun` where it does not run."""

    def __init__(self, backend: str, model: Path, room: Path, outputs: Sequence[structure.Path] = ()):
        self.inputs, self.outputs, self.complaints = (room / name for name in ("in.npz", "out.npz", "stderr"))
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            "KERAS_BACKEND": backend,
            "PYTHONPATH": os.pathsep.join(paths),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        worker = (str(model), str(sys.getrecursionlimit()), json.dumps(outputs))
        with self.complaints.open("wb") as complaints:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "bridge.verification.backends.worker", *worker],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
                env=os.environ | environment,
            )

    def __enter__(self) -> BackendProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def __call__(self, inputs: Arrays) -> Arrays:
        write(self.inputs, inputs)
        answer = self._ask({"inputs": str(self.inputs), "outputs": str(self.outputs)})
        if answer["failure"]:
            raise NotRun(answer["failure"])
        return read(self.outputs)

    def _ask(self, question: dict[str, str]) -> dict[str, str]:
        """What the process answers; that it ended, or was ended because it took too long."""
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise NotRun("its process has no pipes")
        end = threading.Timer(SECONDS, process.kill)
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
        lines = self.complaints.read_text(errors="replace").strip().splitlines()
        last = f": {lines[-1]}" if lines else ""
        raise NotRun(f"its process ended with code {process.wait()}, within {SECONDS:.0f} s{last}")
