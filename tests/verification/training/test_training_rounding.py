"""Training is judged by what torch is sure of: not by what only rounding decides, nor where there are no numbers."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import bridge
from bridge.verification.checks import GRADIENTS, STEPS
from bridge.verification.training.parity import gradient_errors
from bridge.verification.training.shaken import Shaken

torch.set_num_threads(1)


class Saturated(nn.Module):
    """A gate that is open as far as rounding goes: all of its slope is a last bit of 1; and a layer beside it."""

    def __init__(self, share: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.share, self.gate, self.beside = share, nn.Linear(4, 6), nn.Linear(4, 6)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (self.gate(x) + 35).sigmoid(), self.beside(x).relu() * self.share


def test_a_gradient_that_rounding_alone_decides_is_named_and_not_compared(
    build_with: Callable[..., None],
) -> None:
    build_with("Sigmoid", lambda x: 1.0 - keras.ops.sigmoid(-x))  # which keeps the digits that torch's loses
    report = bridge.convert(
        Saturated(1e-12).eval(), torch.randn(2, 4), verify=bridge.Verify(training=True)
    ).report
    assert report.verified
    assert {check.limit for check in report.checks if check.dtype == "float64"} <= {1e-10, 1e-8}
    named = "rounding alone decides the gradient of gate.weight, gate.bias: not compared"
    assert named in report.notes
    assert max(gradient.error for gradient in report.gradients) > 0.1


def test_a_wrong_gradient_beside_it_is_caught(build_with: Callable[..., None]) -> None:
    def straight_through(x):  # right values, the gradient of the identity
        y = keras.ops.relu(x)
        return keras.ops.where(keras.ops.isfinite(x), x + keras.ops.stop_gradient(y - x), y)

    build_with("Relu", straight_through)
    with pytest.raises(bridge.MismatchError, match=f"{GRADIENTS} differ by .* .limit 1e-0"):
        bridge.convert(Saturated(1e-12).eval(), torch.randn(2, 4), verify=bridge.Verify(training=True))


class Root(nn.Module):
    """Of zeros, which has no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.last(h + (h * 0.0).sqrt())


def test_where_torch_has_no_gradient_none_is_compared() -> None:
    report = bridge.convert(Root().eval(), torch.randn(8, 4), verify=bridge.Verify(training=True)).report
    assert report.verified
    assert any("after step 1 torch's parameters are no numbers" in note for note in report.notes)
    assert {check.leg for check in report.checks} >= {GRADIENTS}
    assert STEPS not in {check.leg for check in report.checks}


def test_nan_where_torch_has_a_gradient_is_caught(build_with: Callable[..., None]) -> None:
    def wrong(x):  # right values; a root of zero where nothing is taken of it
        y, root = keras.ops.relu(x), keras.ops.sqrt(keras.ops.relu(x))
        return keras.ops.where(x > 0, y, y + root - keras.ops.stop_gradient(root))

    build_with("Relu", wrong)
    network = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).eval()
    with pytest.raises(bridge.MismatchError, match=f"{GRADIENTS} differ by inf"):
        bridge.convert(network, torch.randn(8, 4), verify=bridge.Verify(training=True))


def test_the_error_of_a_gradient() -> None:
    nan, inf = np.nan, np.inf
    want = {"a": np.array([1.0, 2.0]), "b": np.array([nan, 4.0]), "c": np.array([0.0]), "d": np.zeros(0)}
    got = {"a": np.array([1.0, nan]), "b": np.array([7.0, 3.0]), "c": np.array([0.004]), "d": np.zeros(0)}
    assert gradient_errors(got, want) == pytest.approx({"a": inf, "b": 0.25, "c": 1.0})


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_a_weight_that_torch_computes_leaves_the_others_to_compare(norm: Callable[..., nn.Module]) -> None:
    network = nn.Sequential(norm(nn.Linear(4, 6)), nn.Softsign(), nn.Linear(6, 3)).eval()
    report = bridge.convert(network, torch.randn(8, 4), verify=bridge.Verify(training=True)).report
    assert report.verified
    assert {gradient.name for gradient in report.gradients} == {"0.bias", "2.weight", "2.bias"}
    assert any("trains by itself" in note for note in report.notes)


def test_running_statistics_are_written_where_they_are() -> None:
    norm = nn.BatchNorm1d(3).double()
    x = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with Shaken(0):
        norm(x)
    torch.testing.assert_close(norm.running_mean, x.mean(0) * 0.1)


SHAKEN = {  # function of 200 numbers near 1: whether its last bits are moved
    "sum": (lambda x: x.sum(), True),
    "product of matrices": (lambda x: x.reshape(20, 10) @ x.reshape(10, 20), True),
    "in place": (lambda x: x.clone().mul_(3.0), True),
    "a difference": (lambda x: x - x.max(), True),
    "a choice": (lambda x: torch.where(x > 1, x, -x).relu().reshape(10, 20).mT.contiguous(), False),
    "whole numbers": (lambda x: x.argsort(), False),
}


@pytest.mark.parametrize("name", SHAKEN)
def test_what_is_rounded_is_off_by_its_last_bits(name: str) -> None:
    function, moves = SHAKEN[name]
    x = torch.rand(200, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.5
    want = function(x)
    with Shaken(0):
        got = function(x)
    assert torch.equal(got, want) is not moves
    torch.testing.assert_close(got, want, rtol=1e-13, atol=1e-14)
