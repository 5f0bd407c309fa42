"""Every network in `models/`: converted, proved, native, loadable without us, and back in torch bit for bit."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from prepared import MODELS, make, two_biases

import bridge

ROOT = Path(__file__).parents[2]
TRANSPOSES = {  # between nodes; each with its reason
    "conv_gru": 1,  # (batch, channels, time) in torch's signature
    "crnn": 3,  # the image at the door, height against width before the columns, time first for CTC
    "crnn:make_fixed": 3,
    "digit_images": 1,  # the image at the door
    "digit_strips": 2,  # the image at the door, height against width before the columns
    "frames": 1,  # the images at the door
    "seq2seq": 1,  # keys against queries in the attention
    "speech": 3,  # time first in and out, frequency against channels after the convolutions
}
RECURRENT = {"LSTM", "GRU", "SimpleRNN", "Bidirectional", "LSTMCell", "GRUCell", "SimpleRNNCell"}

torch.set_num_threads(1)


@functools.cache
def converted(name: str) -> tuple[bridge.Conversion, torch.nn.Module, tuple]:
    module, args, dynamic_shapes = make(name)
    return (
        bridge.convert(module, args, dynamic_shapes=dynamic_shapes, verify=bridge.Verify(float64=True)),
        module,
        args,
    )


@pytest.mark.parametrize("name", MODELS)
def test_proved_three_ways_at_three_sizes_and_in_double(name: str) -> None:
    report = converted(name)[0].report
    assert report.verified
    assert len({check.sizes for check in report.checks}) >= 3
    assert max(check.error for check in report.checks if check.dtype == "float64") <= 1e-10
    assert max(row.error or 0 for row in report.rows) <= 1e-3  # at every node
    assert all(len(row.errors) >= 3 for row in report.rows if row.error is not None)


@pytest.mark.parametrize("name", MODELS)
def test_native_layers_with_torchs_parameters(name: str) -> None:
    conversion, module, _ = converted(name)
    report = conversion.report
    assert not report.custom_layers
    assert report.transposes <= TRANSPOSES.get(name, 0)
    assert report.trainable == sum(p.numel() for p in module.parameters()) - two_biases(module)
    paths = {path.replace(".", "_") for path, _ in module.named_modules()}
    for layer in conversion.model.layers:
        if layer.weights:
            assert layer.name in paths or layer.name.rsplit("_", 1)[0] in paths, layer.name


@pytest.mark.parametrize("name", MODELS)
def test_every_recurrent_node_is_a_native_layer(name: str) -> None:
    rows = converted(name)[0].report.rows
    recurrent = [row for row in rows if any(kind in row.op for kind in ("LSTM", "GRU", "RNN"))]
    assert all(row.layer in RECURRENT for row in recurrent)


@pytest.mark.parametrize("name", MODELS)
def test_an_untouched_model_comes_back_bit_for_bit(name: str) -> None:
    conversion, module, _ = converted(name)
    state = conversion.weights.to_torch()
    module.load_state_dict(state, strict=True)
    for key, value in module.state_dict().items():
        assert torch.equal(value, state[key]), key


LOADER = """
import sys, json
sys.modules["bridge"] = None  # cannot be imported
import keras, numpy as np
folder, names = sys.argv[1], json.loads(sys.argv[2])
worst = {}
for name in names:
    model = keras.saving.load_model(f"{folder}/{name}.keras", safe_mode=True)
    data = np.load(f"{folder}/{name}.npz")
    inputs = [data[f"x{i}"] for i in range(sum(k.startswith("x") for k in data))]
    tensors = [keras.ops.convert_to_tensor(x) for x in inputs]
    got = model(tensors if len(tensors) > 1 else tensors[0], training=False)
    got = got if isinstance(got, (list, tuple)) else [got]
    wanted = [data[f"y{i}"] for i in range(len(got))]
    worst[name] = max(
        float(np.abs(keras.ops.convert_to_numpy(g) - w).max() / max(np.abs(w).max(), 1e-30))
        for g, w in zip(got, wanted, strict=True)
    )
print(json.dumps(worst))
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keras")
    for name in MODELS:
        conversion, module, args = converted(name)
        with torch.no_grad():
            outputs = [y.numpy() for y in torch.utils._pytree.tree_leaves(module(*args))]
        stem = name.replace(":", "_")
        conversion.save(folder / f"{stem}.keras")
        arrays = {f"x{i}": x.numpy() for i, x in enumerate(args)} | {
            f"y{i}": y for i, y in enumerate(outputs)
        }
        np.savez(folder / f"{stem}.npz", **arrays)
    return folder


@pytest.mark.parametrize(
    ("backend", "models"),
    [
        ("tensorflow", MODELS),
        ("torch", MODELS),
        ("jax", MODELS[::10]),  # which compiles every loop first
        pytest.param("jax", MODELS, marks=pytest.mark.slow),
    ],
    ids=["tensorflow", "torch", "some-jax", "jax"],
)
def test_saved_files_run_in_plain_keras(saved: Path, backend: str, models: list[str]) -> None:
    names = [name.replace(":", "_") for name in models]
    environment = os.environ | {"KERAS_BACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-c", LOADER, str(saved), json.dumps(names)],
        capture_output=True, text=True, env=environment, cwd=saved,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    worst = json.loads(done.stdout.splitlines()[-1])
    assert {name: error for name, error in worst.items() if not error <= 1e-5} == {}
