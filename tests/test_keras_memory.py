"""Variables hold their numbers once: every habit of Keras that `keras_memory.py` works around is there, and the sum of a
conversion, a saving and a loading."""

import json
import os
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from keras import layers
from keras.src.saving import saving_lib

from bridge import keras_memory
from bridge.files.archives import unpacked
from bridge.keras_memory import (
    LARGE,
    handed_over,
    numbers,
    weights_read_one_by_one,
    weights_to_come,
    weights_written_one_by_one,
)
from bridge.weights.memory import aligned_empty

ROWS = LARGE // 2 // 64 + 1  # of a matrix that is large in halves too
ON_TENSORFLOW = keras.backend.backend() == "tensorflow"


def test_weights_to_come_are_not_drawn(monkeypatch):
    """Their initializers stand in the config all the same, and draw again afterwards."""
    drawing = []
    for kind in (keras.initializers.Orthogonal, keras.initializers.VarianceScaling):
        draw = kind.__call__
        monkeypatch.setattr(
            kind, "__call__", lambda *args, draw=draw, **kwargs: drawing.append(1) or draw(*args, **kwargs)
        )
    with weights_to_come():
        layer = layers.LSTM(2)
        layer.build((None, None, 3))
    assert not drawing
    assert layer.get_config()["recurrent_initializer"]["class_name"] == "Orthogonal"
    assert layer.cell.bias.numpy().tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
    layers.LSTM(2).build((None, None, 3))
    assert len(drawing) == 2


def variable_and_array(dtype="float32"):
    with weights_to_come():
        layer = layers.Dense(64, dtype=dtype)
        layer.build((None, ROWS))
    array = aligned_empty((ROWS, 64), np.dtype(dtype))
    array[...] = np.arange(ROWS * 64).reshape(ROWS, 64) % 100
    return layer.kernel, array


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="its parameters are copied into")
@pytest.mark.parametrize(
    "dtype", ["float32", "float16", *(["bfloat16"] if ON_TENSORFLOW else [])]
)  # jax casts that
def test_a_variable_keeps_what_is_handed_over(dtype):
    kernel, array = variable_and_array(dtype)
    want = array.copy()
    kernel.assign(handed_over(array))
    assert numbers(kernel).ctypes.data == array.ctypes.data
    del array
    np.testing.assert_array_equal(np.asarray(numbers(kernel), "float32"), np.asarray(want, "float32"))
    seen = numbers(kernel)
    kernel.assign_add(np.ones((ROWS, 64)))  # of which nobody who has seen it before sees anything
    np.testing.assert_array_equal(np.asarray(seen, "float32"), np.asarray(want, "float32"))
    np.testing.assert_array_equal(np.asarray(kernel.value + 0, "float32"), np.asarray(want, "float32") + 1)


@pytest.mark.skipif(not ON_TENSORFLOW, reason="TensorFlow copies")
def test_a_variable_copies_what_is_not_handed_over():
    kernel, array = variable_and_array()
    kernel.assign(array)
    assert numbers(kernel).ctypes.data != array.ctypes.data
    assert np.asarray(kernel).ctypes.data != numbers(kernel).ctypes.data


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no children")
def test_what_a_child_writes_is_its_own():
    array = keras_memory._mapped((LARGE,), np.dtype("uint8"))
    child = os.fork()
    if child == 0:
        array[0] = 1
        os._exit(int(array[0]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert array[0] == 0


def test_keras_asks_whether_all_weights_fit_into_memory_once_more(tmp_path, monkeypatch):
    """It does in both directions, and where it is told that they do not, both go on without."""
    model, asked = keras.Sequential([keras.Input((ROWS,)), layers.Dense(64)]), []
    monkeypatch.setattr(saving_lib, "is_memory_sufficient", lambda model: asked.append(1) or True)
    model.save(tmp_path / "m.keras")
    keras.saving.load_model(tmp_path / "m.keras")
    assert len(asked) == 2
    with weights_written_one_by_one():
        model.save(tmp_path / "n.keras")
    opened, given = [], []
    monkeypatch.setattr(
        keras_memory, "handed_over", lambda array: given.append(array.shape) or handed_over(array)
    )
    with weights_read_one_by_one(lambda *member: opened.append(member) or unpacked(*member)):
        again = keras.saving.load_model(tmp_path / "n.keras")
    assert len(asked) == 2
    assert len(opened) == 1
    assert given == [(ROWS, 64)]
    np.testing.assert_array_equal(np.asarray(again.layers[0].kernel), np.asarray(model.layers[0].kernel))
    assert sorted(os.listdir(tmp_path)) == ["m.keras", "n.keras"]
    with zipfile.ZipFile(tmp_path / "n.keras") as archive:
        assert all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist())


PEAKS = """
import json, sys, threading, torch
import bridge
from benchmarks.large import anonymous
from torch import nn

def peak(work):
    before, high, done = anonymous(), [0], threading.Event()
    def watch():
        while not done.wait(0.002):
            high[0] = max(high[0], anonymous())
    watcher = threading.Thread(target=watch)
    watcher.start()
    result = work()
    done.set()
    watcher.join()
    return (high[0] - before) / weights, result

def module(width):
    return nn.Sequential(*(nn.Linear(width, width) for _ in range(8))).eval()

bridge.convert(module(8), torch.zeros(1, 8)).save(sys.argv[1])
bridge.load(sys.argv[1])
large, x = module(2048), torch.zeros(1, 2048)
weights = sum(value.nbytes for value in large.parameters())
converted, result = peak(lambda: bridge.convert(large, x, verify=False))
saved, _ = peak(lambda: result.save(sys.argv[1]))
del result
proved, result = peak(lambda: bridge.convert(large, x))
assert result.report.verified
del result
loaded, _ = peak(lambda: bridge.load(sys.argv[1]))
print(json.dumps([converted, saved, proved, loaded]))
"""


@pytest.mark.skipif(not ON_TENSORFLOW or sys.platform != "linux", reason="measured on one")
def test_weights_are_held_once(tmp_path):
    """The peaks of anonymous memory, above what there was before, in units of the weights, 134 MB."""
    done = subprocess.run(
        [sys.executable, "-c", PEAKS, tmp_path / "m.keras"], capture_output=True, text=True, check=True
    )
    converted, saved, proved, loaded = json.loads(done.stdout.splitlines()[-1])
    assert converted < 1.4, (converted, saved, proved, loaded)
    assert saved < 0.4, (converted, saved, proved, loaded)
    assert proved < 1.6, (converted, saved, proved, loaded)
    assert 0.9 < loaded < 1.4, (converted, saved, proved, loaded)
