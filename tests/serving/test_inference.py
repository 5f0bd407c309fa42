"""Models made for inference: equal to what they were made of, without what only training needs."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from torch import nn

import bridge
from bridge.serving import folding
from bridge.verification.checks import LEGS, SERVED

torch.set_num_threads(1)


def chain(*layers: nn.Module) -> nn.Module:
    """The layers one after the other, with statistics and weights that are not the initial ones."""
    torch.manual_seed(0)
    module = nn.Sequential(*layers)
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 3)
            for parameter in part.parameters():
                nn.init.normal_(parameter)
    return module.eval()


LINE, IMAGE, VOLUME = torch.randn(2, 4, 9), torch.randn(2, 4, 9, 7), torch.randn(2, 4, 5, 7, 6)
FOLDED = {  # a layer, and the normalisation behind it
    "dense": (nn.Linear(6, 3), nn.BatchNorm1d(3), torch.randn(4, 6)),
    "dense without bias": (nn.Linear(6, 3, bias=False), nn.BatchNorm1d(3, affine=False), torch.randn(4, 6)),
    "1d": (nn.Conv1d(4, 6, 3, groups=2), nn.BatchNorm1d(6, eps=0.1), LINE),
    "1d depthwise": (nn.Conv1d(4, 8, 3, groups=4, bias=False), nn.BatchNorm1d(8), LINE),
    "1d transposed": (nn.ConvTranspose1d(4, 6, 3, stride=2), nn.BatchNorm1d(6), LINE),
    "2d": (nn.Conv2d(4, 6, 3, stride=2, bias=False), nn.BatchNorm2d(6), IMAGE),
    "2d depthwise": (nn.Conv2d(4, 8, 3, groups=4), nn.BatchNorm2d(8), IMAGE),
    "2d transposed": (nn.ConvTranspose2d(4, 6, 3, stride=2), nn.BatchNorm2d(6), IMAGE),
    "3d": (nn.Conv3d(4, 6, 2), nn.BatchNorm3d(6), VOLUME),
    "3d transposed": (nn.ConvTranspose3d(4, 6, 2), nn.BatchNorm3d(6), VOLUME),
}


def converted(module: nn.Module, x: torch.Tensor) -> bridge.Conversion:
    """Not compared with torch, which the tests do themselves."""
    return bridge.convert(module, x, verify=False)


def off(model: keras.Model, module: nn.Module, x: torch.Tensor) -> float:
    want = module(x).detach().numpy()
    return float(np.abs(keras.ops.convert_to_numpy(model(x.numpy())) - want).max() / np.abs(want).max())


def test_what_was_not_compared_with_its_source_is_not_proved() -> None:
    report = converted(chain(nn.Linear(6, 3), nn.BatchNorm1d(3)), torch.randn(4, 6)).for_inference().report
    assert report.verdict == "converted, not compared"
    assert not report.verified
    assert not report.failed


@pytest.mark.parametrize("row", FOLDED.values(), ids=FOLDED)
def test_a_normalisation_is_part_of_the_layer_before_it(row, tmp_path: Path) -> None:
    layer, norm, x = row
    module = chain(layer, norm, nn.ReLU(), nn.Dropout(0.3))
    served = converted(module, x).for_inference()
    kinds = {type(layer) for layer in served.model.layers}
    assert not kinds & {keras.layers.BatchNormalization, keras.layers.Dropout}
    assert off(served.model, module, x) < 1e-6
    assert [check.passed for check in served.report.checks if check.leg == SERVED] == [True] * 3
    assert set(served.weights.one_way) == {*module.state_dict()} - {"1.num_batches_tracked"}
    loaded = bridge.load(served.save(tmp_path / "served.keras"))
    assert off(keras.models.load_model(tmp_path / "served.keras"), module, x) < 1e-6
    with pytest.raises(bridge.WeightsError, match="cannot go back to torch: .*0.weight"):
        loaded.weights.to_torch()


class Twice(nn.Module):
    """A convolution whose output somebody else reads, or that is called twice, and norms that stand before one."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.read_norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.called, self.called_norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.first_norm, self.active, self.last_norm = (
            nn.BatchNorm2d(4),
            nn.Conv2d(4, 4, 1),
            nn.BatchNorm2d(4),
        )

    def forward(self, x):
        read = self.read(x)
        both = self.called_norm(self.called(self.called(self.read_norm(read)) + read))
        return self.last_norm(torch.relu(self.active(self.first_norm(both)))), read


def test_what_others_read_stays() -> None:
    module = chain(Twice())
    result = converted(module, IMAGE)
    served = result.for_inference()
    assert len(served.model.layers) == len(result.model.layers)
    assert not served.weights.one_way
    for got, want in zip(served.model(IMAGE.numpy()), module(IMAGE), strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(got), want.detach().numpy(), atol=1e-5)


def test_it_is_compared_at_the_sizes_of_the_proof_and_weights_are_held_once() -> None:
    module = chain(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 2, 1))
    shapes = {"input": {0: "batch", 2: "height", 3: "width"}}
    result = bridge.convert(module, IMAGE, dynamic_shapes=shapes)
    served = result.for_inference()
    sizes = {check.sizes for check in result.report.checks if not check.values}
    assert {check.sizes for check in served.report.checks if check.leg == SERVED} == sizes
    assert served.report.verdict.startswith("proved equal")
    assert "in training" not in served.report.verdict
    shared = {id(variable) for variable in result.model.variables} & {id(v) for v in served.model.variables}
    assert len(shared) == 2
    assert served.report.trainable == sum(p.numel() for p in module.parameters()) - 12


def test_of_a_model_whose_training_was_compared() -> None:
    """Whose comparisons have more to say than sizes."""
    module = chain(nn.Linear(6, 3), nn.BatchNorm1d(3))
    verify = bridge.Verify(training=True)
    served = bridge.convert(module, torch.randn(4, 6), verify=verify).for_inference()
    sizes = {check.sizes for check in served.report.checks if check.leg in LEGS}
    assert {check.sizes for check in served.report.checks if check.leg == SERVED} == sizes


def test_channels_last_and_recurrent_models_are_served_too() -> None:
    module = chain(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6))
    served = bridge.convert(module, IMAGE, channels_last=True, verify=False).for_inference()
    got = keras.ops.convert_to_numpy(served.model(IMAGE.numpy().transpose(0, 2, 3, 1)))
    np.testing.assert_allclose(got.transpose(0, 3, 1, 2), module(IMAGE).detach().numpy(), atol=1e-5)
    lstm = nn.LSTM(3, 4, batch_first=True, bidirectional=True, dropout=0.2, num_layers=2).eval()
    served = bridge.convert(lstm, torch.randn(2, 5, 3), verify=False).for_inference()
    assert sum(isinstance(layer, keras.layers.Bidirectional) for layer in served.model.layers) == 2


def test_a_wrong_fold_is_a_mismatch(monkeypatch) -> None:
    fold = folding._fold

    def wrong(before, norm, made):
        fold(before, norm, made)
        made.bias.assign(made.bias * 1.001)

    monkeypatch.setattr(folding, "_fold", wrong)
    result = converted(chain(nn.Linear(6, 3), nn.BatchNorm1d(3)), torch.randn(4, 6))
    with pytest.raises(bridge.MismatchError, match="as converted ↔ for inference differ"):
        result.for_inference()
