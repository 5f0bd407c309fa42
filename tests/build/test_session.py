"""A Keras that is set up otherwise, when a model is converted or when it is loaded, makes no other model of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from torch import nn

import bridge

SETTINGS = {
    "channels_first": (keras.config.set_image_data_format, keras.config.image_data_format, "channels_first"),
    "mixed_float16": (keras.config.set_dtype_policy, keras.config.dtype_policy, "mixed_float16"),
    "mixed_bfloat16": (keras.config.set_dtype_policy, keras.config.dtype_policy, "mixed_bfloat16"),
    "float64": (keras.config.set_floatx, keras.config.floatx, "float64"),
    "float16": (keras.config.set_floatx, keras.config.floatx, "float16"),
}


@contextlib.contextmanager
def session(setting: str) -> Iterator[None]:
    """Keras with one of SETTINGS."""
    change, now, wanted = SETTINGS[setting]
    before = now()
    change(wanted)
    try:
        yield
    finally:
        change(before)


class Strips(nn.Module):
    """Convolutions, pools, normalisations, a resize, a recurrent layer and numbers between them."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Upsample(scale_factor=2),
            nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.AvgPool2d(2, 1), nn.GroupNorm(2, 4), nn.PReLU(4),
        )  # fmt: skip
        self.deconvolve = nn.ConvTranspose2d(4, 3, 2, 2)
        self.table = nn.Embedding(5, 6)
        self.rnn = nn.LSTM(6, 4, batch_first=True, bidirectional=True)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.scale = nn.Parameter(torch.randn(8))

    def forward(self, image, index):
        x = self.deconvolve(self.features(image)).mean((2, 3))
        y, _ = self.rnn(self.table(index))
        y = self.norm(y + self.attend(y, y, y)[0]) * self.scale / 3 + index[..., None] * 0.25
        return x, y.cumsum(1), torch.arange(3) + index.sum(1, keepdim=True)


@pytest.fixture(autouse=True)
def _same_numbers_each_time() -> None:
    torch.manual_seed(0)


def arguments() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(2, 2, 8, 6), torch.randint(5, (2, 7))


def assert_equal(model: keras.Model, module: nn.Module) -> None:
    args = arguments()
    got = model([x.numpy() for x in args])
    for one, want in zip(got, module(*args), strict=True):
        assert keras.backend.standardize_dtype(one.dtype) == str(want.dtype).removeprefix("torch.")
        np.testing.assert_allclose(keras.ops.convert_to_numpy(one), want.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("setting", ["channels_first", "mixed_float16", "float64"])
def test_converted_in_another_session(setting: str, tmp_path: Path) -> None:
    module = Strips().eval()
    with session(setting):
        conversion = bridge.convert(module, arguments())
        assert_equal(conversion.model, module)
        path = conversion.save(tmp_path / "model.keras")
    assert conversion.report.verified
    assert_equal(keras.models.load_model(path, safe_mode=True), module)


def test_loaded_in_other_sessions(tmp_path: Path) -> None:
    module = Strips().eval()
    path = bridge.convert(module, arguments()).save(tmp_path / "model.keras")
    for setting in SETTINGS:
        with session(setting):
            assert_equal(keras.models.load_model(path, safe_mode=True), module)
