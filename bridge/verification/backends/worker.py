"""The process of a `BackendProcess`: loads a model on the backend that its environment names, and runs it on every
question that a line of its standard input asks. What frameworks print goes to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from bridge.errors import NotRun, short_message
from bridge.graph import structure
from bridge.processes import questions
from bridge.verification.backends.arrays_on_disk import read, write
from bridge.verification.metrics import Arrays


def main(model: str, recursion_limit: str, outputs: str) -> None:
    sys.setrecursionlimit(int(recursion_limit))
    run: Callable[[Arrays], Arrays] | None = None
    for question, answers in questions():
        failure = ""
        try:
            run = run or _loaded(model, list(map(tuple, json.loads(outputs))))
            write(Path(question["outputs"]), run(read(Path(question["inputs"]))))
        except NotRun as error:
            failure = str(error)
        except Exception as error:  # of loading: whatever Keras and the backend raise
            failure = short_message(error)
        print(json.dumps({"failure": failure}), file=answers, flush=True)


def _loaded(model: str, outputs: list[structure.Path]) -> Callable[[Arrays], Arrays]:
    from bridge import layers
    from bridge.verification.runners import keras_call

    return keras_call(layers.load_model(model), outputs)


if __name__ == "__main__":
    main(*sys.argv[1:])
