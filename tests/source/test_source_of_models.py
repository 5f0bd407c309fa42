"""Every network in `models/` as source: it makes the same model, and is what ruff would leave as it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from prepared import MODELS, VISION, make

import bridge

torch.set_num_threads(1)

FEW = ["char_stream", "hand_stepped", "vision.resnet", "vision.vit", "gpt"]
OTHERS = [name for name in (*MODELS, *VISION, "llama", "translator") if name not in FEW]
RULES = "E,F,I,B,UP,C4,SIM"


def converted(name: str) -> tuple[bridge.Conversion, tuple[torch.Tensor, ...]]:
    module, args, dynamic_shapes = make(name)
    return bridge.convert(module, args, dynamic_shapes=dynamic_shapes, verify=False), args


def run(path: Path) -> keras.Model:
    """The model of a source and its weights, made by what the file itself has for that."""
    space = {"__name__": "net", "__file__": str(path)}
    exec(compile(path.read_text(), str(path), "exec"), space)
    load = next(thing for name, thing in space.items() if name.startswith("load_"))
    return load()


def require_clean(path: Path) -> None:
    for command in (["check", "-q", "--select", RULES], ["format", "--check", "-q"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--isolated", str(path)],
            capture_output=True,
            text=True,
            cwd=path.parent,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def outputs(model: keras.Model, arrays: list[np.ndarray]) -> list[np.ndarray]:
    given = model(arrays if len(arrays) > 1 else arrays[0], training=False)
    return [keras.ops.convert_to_numpy(y) for y in keras.tree.flatten(given)]


@pytest.mark.parametrize("name", [*FEW, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_the_source_gives_what_the_model_gives(name: str, tmp_path: Path) -> None:
    result, args = converted(name)
    path = result.save_source(tmp_path / "net.py")
    require_clean(path)
    arrays = [x.numpy() for x in args]
    made = run(path)
    for want, got in zip(outputs(result.model, arrays), outputs(made, arrays), strict=True):
        assert want.dtype == got.dtype
        assert np.array_equal(want, got, equal_nan=True)
    assert {layer.name for layer in made.layers if layer.weights} >= {
        layer.name for layer in result.model.layers if layer.weights
    }
