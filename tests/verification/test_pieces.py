"""Models that keep their state between calls: proved in pieces, saved, loaded, and taken back to torch."""

import importlib

import keras
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import bridge
from bridge import layers
from bridge.verification.checks import PIECES

TIME = ({0: "batch", 1: "time"},)


class Listener(nn.Module):
    """A causal convolution, a GRU, logits for every frame, and the state that it ends in."""

    def __init__(self):
        super().__init__()
        self.hear = nn.Conv1d(3, 4, 3, padding=2)
        self.norm = nn.BatchNorm1d(4)
        self.remember = nn.GRU(4, 5, batch_first=True)
        self.say = nn.Linear(5, 2)

    def forward(self, sound):
        heard = torch.relu(self.norm(self.hear(sound.transpose(1, 2))[..., :-2])).transpose(1, 2)
        states, last = self.remember(heard)
        return functional.log_softmax(self.say(states), -1), last


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    return Listener().eval()


@pytest.fixture(scope="module")
def converted(module):
    sound = torch.randn(1, 7, 3, generator=torch.Generator().manual_seed(1))
    return bridge.convert(module, sound, dynamic_shapes=TIME, stateful=True, batch_size=2)


def in_pieces(model, sound, *lengths):
    ends = np.cumsum((0, *lengths))
    parts = [model(sound[:, a:b])[0] for a, b in zip(ends[:-1], ends[1:], strict=True)]
    return np.concatenate([keras.ops.convert_to_numpy(part) for part in parts], 1)


def test_it_is_proved_in_pieces(converted):
    report = converted.report
    assert report.verified
    assert "in pieces of a sequence" in report.verdict
    cuts = [check.values for check in report.checks if check.leg == PIECES]
    assert cuts[:3] == ["in pieces of 1, 1, 1, 1, 1, 1, 1", *["in pieces of 2, 1, 3, 1"] * 2]
    kinds = [type(layer).__name__ for layer in layers.stateful_layers(converted.model)]
    assert kinds == ["Past", "GRU"]
    assert report.inputs[0].axes[0].size == 2
    assert report.non_trainable == 8  # of the normalisation
    assert not any("past" in entry.variable.path for entry in converted.weights)


def test_it_goes_on_until_it_is_reset(module, converted):
    sound = np.random.default_rng(0).normal(size=(2, 9, 3)).astype("float32")
    wanted = module(torch.from_numpy(sound))[0].detach().numpy()
    bridge.reset_states(converted.model)
    np.testing.assert_allclose(in_pieces(converted.model, sound, 4, 1, 4), wanted, atol=1e-5)
    assert not np.allclose(in_pieces(converted.model, sound, 9), wanted, atol=1e-3)  # another sound behind it
    bridge.reset_states(converted.model)
    np.testing.assert_allclose(in_pieces(converted.model, sound, 9), wanted, atol=1e-5)
    bridge.reset_states(converted.model)


def test_predict_goes_on_too(module, converted):
    if keras.backend.backend() == "jax":
        pytest.skip("what predict compiles on jax forgets the state of Keras's recurrent layers")
    sound = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    bridge.reset_states(converted.model)
    parts = [converted.model.predict(part, verbose=0)[0] for part in (sound[:, :2], sound[:, 2:])]
    bridge.reset_states(converted.model)
    wanted = module(torch.from_numpy(sound))[0].detach().numpy()
    np.testing.assert_allclose(np.concatenate(parts, 1), wanted, atol=1e-5)


def test_it_is_saved_without_its_state(module, converted, tmp_path):
    sound = np.random.default_rng(0).normal(size=(2, 9, 3)).astype("float32")
    converted.model(sound)
    converted.save(tmp_path / "model.keras")
    bridge.reset_states(converted.model)
    loaded = bridge.load(tmp_path / "model.keras")
    wanted = module(torch.from_numpy(sound))[0].detach().numpy()
    np.testing.assert_allclose(in_pieces(loaded.model, sound, 2, 7), wanted, atol=1e-5)
    for name, value in loaded.weights.to_torch().items():
        assert torch.equal(value, module.state_dict()[name]), name
    report = bridge.verify(
        tmp_path / "model.keras", module, torch.zeros(2, 7, 3).normal_(), dynamic_shapes=TIME
    )
    assert any(check.leg == PIECES for check in report.checks)
    assert report.verified


def test_a_model_that_forgets_is_a_mismatch(module, monkeypatch):
    def call(self, x):
        return keras.ops.concatenate([self.state.value, x], axis=self.axis)

    monkeypatch.setattr(layers.Past, "call", call)
    with pytest.raises(
        bridge.MismatchError, match="whole sequence ↔ Keras in pieces differ by .*; in pieces of 1"
    ):
        bridge.convert(module, torch.randn(2, 7, 3), dynamic_shapes=TIME, stateful=True)


def test_it_is_no_saved_model(converted, tmp_path):
    with pytest.raises(bridge.SourceError, match="keeps the state"):
        converted.export(tmp_path / "served")


def test_training_is_not_compared(module):
    options = bridge.Verify(training=True)
    with pytest.raises(bridge.SourceError, match="convert without stateful"):
        bridge.convert(module, torch.randn(2, 7, 3), dynamic_shapes=TIME, stateful=True, verify=options)
    with pytest.raises(bridge.SourceError, match="beside stateful=True"):
        bridge.convert(module, torch.randn(2, 7, 3), dynamic_shapes=TIME, batch_size=3)


MODELS = {  # of models/: what is said of each, nothing where it takes pieces
    "language_model": "",
    "forecaster": "",
    "char_stream": r"LSTMFrom at lstm \(char_stream.py:\d+\): in pieces, it starts from a state that it is given",
    "conv_gru": r"Conv at conv.0.0 \(conv_gru.py:\d+\): in pieces, it looks 1 frame ahead",
    "residual_lstm": r"BiLSTM at layers.2.lstm \(residual_lstm.py:\d+\): in pieces, it reads the sequence from its end",
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_takes_pieces_or_says_why_not(name):
    module, args, shapes = importlib.import_module(f"models.{name}").make()
    found = bridge.inspect(module, args, dynamic_shapes=shapes, stateful=True)
    assert bool(found.refusals) == bool(MODELS[name])
    import re

    assert not MODELS[name] or any(re.search(MODELS[name], refusal) for refusal in found.refusals)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vision.wavenet", "frames", "sunspots", "digits"])
def test_a_model_of_the_repository_is_proved_in_pieces(name):
    module, args, shapes = importlib.import_module(f"models.{name}").make()
    assert bridge.convert(module, args, dynamic_shapes=shapes, stateful=True).report.verified
