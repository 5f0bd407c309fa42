"""SavedModels: what TensorFlow loads from disk gives what the model gives, by the names that it has."""

from __future__ import annotations

import os
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from click.testing import CliRunner
from torch import nn

import bridge
from bridge.cli.commands import main
from bridge.serving import saved_model
from bridge.verification.checks import EXPORTED

torch.set_num_threads(1)
pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow writes them")
AXES = {"ids": {0: "batch", 1: "time"}, "x": {0: "batch", 1: "time"}}


class Tagger(nn.Module):
    """Two inputs, and a dict inside of a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.states = nn.Embedding(7, 3), nn.LSTM(3, 5, batch_first=True, bidirectional=True)

    def forward(self, ids, x):
        y, (h, _) = self.states(self.words(ids) + x)
        return {"tags": y, "last": {"state": h}}


@pytest.fixture(scope="module")
def tagger() -> tuple[bridge.Conversion, nn.Module]:
    torch.manual_seed(0)
    module = Tagger().eval()
    args = torch.randint(0, 7, (2, 5)), torch.randn(2, 5, 3)
    return bridge.convert(module, args, dynamic_shapes=AXES, verify=False), module


@pytest.mark.parametrize("form", [saved_model.PLAIN, saved_model.FROZEN])
def test_it_is_served_by_the_names_of_its_inputs_and_outputs(
    form, tagger, tmp_path: Path, monkeypatch
) -> None:
    conversion, module = tagger
    others = {saved_model.PLAIN, saved_model.FROZEN} - {form}
    monkeypatch.setattr(saved_model, "_measured", lambda forms, _: {form: 1.0, **dict.fromkeys(others, 2.0)})
    report = conversion.export(tmp_path / "1")
    assert [check.passed for check in report.checks if check.leg == EXPORTED.format("SavedModel")] == [
        True
    ] * 3
    assert report.notes[-1].startswith(f"the SavedModel is {form}")
    loaded = tf.saved_model.load(tmp_path / "1")
    served = loaded.signatures["serving_default"]
    assert (len(served.variables) > 0) == (form == saved_model.PLAIN)
    ids, x = torch.randint(0, 7, (3, 8)), torch.randn(3, 8, 3)
    found, want = served(ids=tf.constant(ids.numpy()), x=tf.constant(x.numpy())), module(ids, x)
    assert set(found) == {"tags", "last_state"}
    np.testing.assert_allclose(found["tags"], want["tags"].detach(), atol=1e-5)
    np.testing.assert_allclose(found["last_state"], want["last"]["state"].detach(), atol=1e-5)


def test_every_form_is_timed_and_the_fastest_written(tmp_path: Path) -> None:
    """Compiled too, where all axes are fixed; outputs in a list have the numbers of their places."""

    class Two(nn.Module):
        def forward(self, x):
            return x * 2, x.sum(1)

    conversion = bridge.convert(Two(), torch.randn(2, 5), dynamic_shapes={"x": {}}, verify=False)
    note = conversion.export(tmp_path / "1").notes[-1]
    assert all(f"{form} " in note for form in ("plain", "frozen", "XLA"))
    served = tf.saved_model.load(tmp_path / "1").signatures["serving_default"]
    assert set(served(x=tf.ones((2, 5)))) == {"output_0", "output_1"}


def test_activations_with_gradients_of_their_own_are_frozen_too(tmp_path: Path) -> None:
    """SiLU's are TensorFlow's; in a folder that is not there yet."""
    module = nn.Sequential(nn.Linear(5, 3), nn.SiLU(), nn.Linear(3, 2), nn.Hardswish(), nn.GELU()).eval()
    conversion = bridge.convert(module, torch.randn(2, 5), verify=False)
    conversion.export(tmp_path / "served" / "1")
    found = tf.saved_model.load(tmp_path / "served" / "1").signatures["serving_default"]
    assert set(found(tf.ones((2, 5)))) == {"output"}


def test_what_is_wrong_is_not_written(tagger, tmp_path: Path, monkeypatch) -> None:
    loaded = saved_model._loaded
    monkeypatch.setattr(
        saved_model, "_loaded", lambda *args: lambda inputs: [1.01 * y for y in loaded(*args)(inputs)]
    )
    with pytest.raises(bridge.MismatchError, match="as converted ↔ SavedModel differ by 0.01"):
        tagger[0].export(tmp_path / "1")
    assert not os.listdir(tmp_path)


def test_nothing_is_written_over(tagger, tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    with pytest.raises(bridge.OutputError, match="something already"):
        tagger[0].export(tmp_path / "1")


def test_from_the_command_line(tagger, tmp_path: Path) -> None:
    path, folder = tagger[0].save(tmp_path / "model.keras"), tmp_path / "1"
    command = ["export", str(path), "-o", str(folder), "--report", str(tmp_path / "report.txt")]
    assert CliRunner().invoke(main, command).exit_code == 0
    assert "as converted ↔ SavedModel" in (tmp_path / "report.txt").read_text()
    assert (folder / "saved_model.pb").is_file()
    assert CliRunner().invoke(main, command).exit_code == 6
