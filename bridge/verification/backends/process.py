"""A saved Keras model on another backend, as a function of numpy arrays: Keras has one backend in each process, so that
the model runs in one of its own (`worker.py`)."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from bridge.errors import NotRun
from bridge.graph import structure
from bridge.processes import Ended, Process
from bridge.verification.backends.arrays_on_disk import read, write
from bridge.verification.metrics import Arrays

SECONDS = 600.0  # that one run may take, the first with the loading of the framework


class BackendProcess:
    """The model in a `.keras` file, loaded in safe mode on `backend`, for as long as the context is open. Arrays travel
    through files in `room`, a folder for this process alone; `outputs` say where in what the model gives each output
    is, as for `keras_call`. Raises `NotRun` where it does not run."""

    def __init__(self, backend: str, model: Path, room: Path, outputs: Sequence[structure.Path] = ()):
        self.inputs, self.outputs = room / "in.npz", room / "out.npz"
        self._complaints = (room / "stderr").open("w+b")
        self._process = Process(
            "bridge.verification.backends.worker",
            *(str(model), str(sys.getrecursionlimit()), json.dumps(outputs)),
            complaints=self._complaints,
            environment={"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )

    def __enter__(self) -> BackendProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.close()
        self._complaints.close()

    def __call__(self, inputs: Arrays) -> Arrays:
        write(self.inputs, inputs)
        try:
            answer = self._process.ask({"inputs": str(self.inputs), "outputs": str(self.outputs)}, SECONDS)
        except Ended as ended:
            last = f": {ended.last}" if ended.last else ""
            raise NotRun(f"its process ended with code {ended.code}, within {SECONDS:.0f} s{last}") from ended
        if answer["failure"]:
            raise NotRun(answer["failure"])
        return read(self.outputs)
