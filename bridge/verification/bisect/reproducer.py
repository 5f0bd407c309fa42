"""The first node that departs, by itself: as a model of one node with its inputs, and what it became in Keras."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bridge.errors import OutputError
from bridge.files.atomic import write_atomically
from bridge.verification.metrics import Arrays

NODE, INPUTS, OUTPUTS, KERAS = "node.onnx", "inputs.npz", "outputs.npz", "keras.json"


@dataclass(frozen=True)
class Reproducer:
    """What `save` writes: `node.onnx`, which runs by itself, with `inputs.npz`, arrays by the names of its inputs;
    `outputs.npz`, what the source (`wanted_0`, …) and the conversion (`got_0`, …) make of them; and `keras.json`, the
    configuration of each Keras layer that the node became."""

    node: bytes
    inputs: Mapping[str, np.ndarray]
    wanted: Arrays
    got: Arrays
    layers: tuple[dict[str, Any], ...] = ()

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write it into `folder`, which is made where it is none. Raises `OutputError`."""
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder}: {error.strerror}") from error
        sides = {"wanted": self.wanted, "got": self.got}
        outputs = {f"{side}_{k}": x for side, arrays in sides.items() for k, x in enumerate(arrays)}
        files = {
            NODE: self.node,
            INPUTS: _npz(self.inputs),
            OUTPUTS: _npz(outputs),
            KERAS: json.dumps(list(self.layers), indent=2).encode(),
        }
        for name, content in files.items():
            write_atomically(folder / name, partial(_write, content))
        return folder


def _write(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Without pickles; numbers that numpy has not by themselves, as float32."""
    file = io.BytesIO()
    plain = {name: x if x.dtype.isbuiltin else x.astype(np.float32) for name, x in arrays.items()}
    np.savez(file, allow_pickle=False, **plain)
    return file.getvalue()
