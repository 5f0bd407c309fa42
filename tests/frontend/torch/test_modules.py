"""Layers of torch that its exporter writes otherwise than torch computes them, converted whole."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import bridge

torch.set_num_threads(1)
ROWS = [
    # module, shape of its input
    (nn.CELU(1.3), (4, 8)),
    (nn.AvgPool2d(2, (1, 2), padding=1, divisor_override=3), (2, 3, 7, 8)),
    (nn.AvgPool3d(2, divisor_override=3), (2, 3, 4, 4, 4)),
    (nn.AvgPool2d(2, (1, 2), padding=1, ceil_mode=True, divisor_override=3), (2, 3, 8, 8)),
    (nn.AvgPool2d(2, 3, ceil_mode=True, divisor_override=3), (2, 3, 9, 7)),
    (nn.AdaptiveAvgPool2d((3, 2)), (3, 9, 7)),
    (nn.AdaptiveMaxPool3d((3, 2, 3)), (2, 3, 5, 4, 6)),
]


class Places(nn.Module):
    """The maxima of windows that adapt, and where they stand."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return nn.functional.adaptive_max_pool2d(x, (3, 2), return_indices=True)


class Area(nn.Module):
    def __init__(self, more: int | None = None, factor: float | None = None) -> None:
        super().__init__()
        self.more, self.factor = more, factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = None if self.more is None else [n + self.more for n in x.shape[2:]]
        return nn.functional.interpolate(x, size, self.factor, mode="area")


class Half(nn.Module):
    """The second half, which is shorter than the first where the size is odd."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x.chunk(2, 2)[1], x[:, :, :1]], 2)


class Losses(nn.Module):
    """Of classes, some of which do not count, and of probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.rand(3))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        classes = x.argmin(1)
        loss = nn.functional.cross_entropy
        each = loss(x, classes, self.weight, ignore_index=1, reduction="none", label_smoothing=0.1)
        mean = loss(x, classes, self.weight, ignore_index=1, label_smoothing=0.1)
        return (
            each,
            mean,
            loss(x, classes, reduction="sum"),
            loss(x, x.softmax(1), self.weight, label_smoothing=0.2),
        )


FREE = {
    "the second half": (Half(), (2, 3, 8)),
    "blocks of an image": (nn.PixelUnshuffle(2), (2, 3, 8, 6)),
    "losses": (Losses(), (2, 3, 7)),
    "windows of several lengths": (nn.AdaptiveAvgPool2d((3, 2)), (2, 3, 9, 7)),
    "one window along an axis": (nn.AdaptiveMaxPool3d((3, 1, 2)), (2, 3, 9, 7, 5)),
    "maxima and their places": (Places(), (2, 3, 9, 7)),
    "more windows than places": (Area(more=3), (2, 3, 9, 7)),
    "a part of the places": (Area(factor=0.5), (2, 3, 9)),
    "a divisor, and windows that would begin in the padding": (
        nn.AvgPool2d(2, 3, padding=1, ceil_mode=True, divisor_override=3),
        (2, 3, 8, 9),
    ),
    "more output padding than stride": (
        nn.ConvTranspose1d(3, 2, 3, padding=1, output_padding=2, dilation=3),
        (2, 3, 7),
    ),
}


@pytest.mark.parametrize(("module", "shape"), FREE.values(), ids=FREE)
def test_a_layer_over_free_axes(module, shape) -> None:
    axes = {axis: name for axis, name in enumerate("ncdhw"[: len(shape)]) if axis != 1}
    assert bridge.convert(module, torch.randn(shape), dynamic_shapes=(axes,)).report.verified


@pytest.mark.parametrize(("module", "shape"), ROWS)
def test_a_layer_in_float64_too(module, shape) -> None:
    report = bridge.convert(module, torch.randn(shape), verify=bridge.Verify(float64=True)).report
    assert max(check.error for check in report.checks if check.dtype == "float64") < 1e-10


class Cell(nn.Module):
    """Takes what a cell gives for a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = self.cell(x)
        return state[0] if isinstance(state, tuple) else state[1]


def test_a_cell_gives_a_tuple_while_torch_traces() -> None:
    assert bridge.convert(Cell().eval(), torch.randn(2, 4)).report.verified


def test_training_without_parameters_compares_what_there_is() -> None:
    module = nn.Sequential(nn.Dropout(0.3), nn.BatchNorm1d(4, affine=False)).eval()
    report = bridge.convert(module, torch.randn(6, 4), verify=bridge.Verify(training=True)).report
    assert {"running statistics", "dropout rates"} <= {check.leg for check in report.checks}


TRACKED = {
    "a sequence": (nn.InstanceNorm1d(4, affine=True, track_running_stats=True), (3, 4, 7)),
    "an image": (nn.InstanceNorm2d(4, track_running_stats=True), (3, 4, 5, 6)),
    "a volume": (nn.InstanceNorm3d(4, affine=True, track_running_stats=True, eps=1e-3), (2, 4, 3, 4, 5)),
}


@pytest.mark.parametrize(("norm", "shape"), TRACKED.values(), ids=TRACKED)
def test_an_instance_norm_by_its_running_statistics(norm, shape) -> None:
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.3, 2.0)
    module = nn.Sequential(norm, nn.Tanh()).eval()
    result = bridge.convert(module, torch.randn(shape), verify=bridge.Verify(float64=True))
    assert result.report.verified
    assert [type(layer).__name__ for layer in result.model.layers[1:2]] == ["BatchNormalization"]
    assert any("torch takes those of each instance" in note for note in result.report.notes)
    state = result.weights.to_torch()
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    with pytest.raises(bridge.SourceError, match="training differs at 0: an InstanceNorm that keeps running"):
        bridge.convert(module, torch.randn(shape), verify=bridge.Verify(training=True))
