"""The saved model on other Keras backends, each in a process of its own."""

from importlib.util import find_spec

import keras
import ml_dtypes
import numpy as np
import pytest
from checking import parse

import bridge
from bridge.errors import NotRun
from bridge.verification import options, verify
from bridge.verification.backends.arrays_on_disk import read, write
from bridge.verification.backends.process import BackendProcess
from bridge.verification.runners import keras_call

SOURCE = (
    "g (float[N, 3, 8, 8] x, int64[N] i) => (float[N, 4, 8, 8] y, int64[N] j) <float[4, 3, 1, 1] w> "
    "{ y = Conv (x, w) j = Neg (i) }"
)


def test_a_model_is_compared_on_another_backend_at_all_inputs():
    options = bridge.Verify(backends=("jax",))
    report = bridge.convert(parse(SOURCE, {}), channels_last=True, verify=options).report
    assert report.backends == ("jax",)
    own, others = ([c for c in report.checks if bool(c.backend) is other] for other in (False, True))
    assert others
    assert {check.at for check in others} == {check.at for check in own if check.leg == "onnxruntime ↔ Keras"}
    assert "on jax" in report.verdict
    assert "onnxruntime ↔ Keras on jax" in str(report)
    assert "onnxruntime ↔ Keras on jax" in report.to_html()
    assert bridge.Report.from_json(report.to_json()) == report


class Wrong(BackendProcess):
    """One that gives something else."""

    def __init__(self, backend, model, room, outputs):
        self.run = keras_call(keras.saving.load_model(model))

    def __exit__(self, *error):
        pass

    def __call__(self, inputs):
        return [1 + output for output in self.run(inputs)]


def test_a_backend_that_gives_something_else_is_named(monkeypatch):
    monkeypatch.setattr(verify, "BackendProcess", Wrong)
    with pytest.raises(bridge.MismatchError, match="onnxruntime ↔ Keras on jax differ by"):
        bridge.convert(parse(SOURCE, {}), verify=bridge.Verify(backends=("jax",)))


def test_a_process_that_ends_does_not_run(monkeypatch, tmp_path):
    monkeypatch.setattr("bridge.verification.backends.process.SECONDS", 0.0)
    with (
        BackendProcess("jax", tmp_path / "m.keras", tmp_path) as process,
        pytest.raises(NotRun, match="its process ended"),
    ):
        process([np.zeros(3)])


def test_arrays_travel_as_they_are(tmp_path):
    arrays = [
        np.float64(0.5).reshape(()),
        np.arange(6).reshape(2, 3)[:, ::2],
        np.array([True, False]),
        np.array([[1.5], [np.nan]], ml_dtypes.bfloat16),
        np.zeros((0, 3), np.float16),
    ]
    write(tmp_path / "a.npz", arrays)
    for found, given in zip(read(tmp_path / "a.npz"), arrays, strict=True):
        assert (found.dtype, found.shape) == (given.dtype, given.shape)
        assert found.tobytes() == given.tobytes()


@pytest.mark.parametrize(
    ("backends", "says"),
    [
        (("mlx",), "backends: Keras has no 'mlx' that trains, but tensorflow, jax, torch"),
        ("jax", r"backends: give a tuple, \('jax',\)"),
    ],
)
def test_what_is_no_backend_is_refused(backends, says):
    with pytest.raises(bridge.SourceError, match=f"^{says}$"):
        bridge.Verify(backends=backends)


def test_a_backend_that_is_not_installed_is_refused(monkeypatch):
    monkeypatch.setattr(options, "find_spec", lambda name: None if name == "jax" else find_spec(name))
    with pytest.raises(
        bridge.MissingPackageError, match=r"^backends: jax is not installed: pip install '.*\[jax\]'$"
    ):
        bridge.Verify(backends=("jax",))
