"""A network that amplifies rounding is judged by the rounding of its source, and its formulas by float64."""

import keras
import pytest
import torch
from torch import Tensor, nn

import bridge
from bridge.report import LIMIT

torch.set_num_threads(1)


class Amplifies(nn.Module):
    """A sine of large numbers, which gives all of their rounding."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(5, 64)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(3e4 * torch.sigmoid(self.lin(x)))


@pytest.fixture
def module() -> nn.Module:
    torch.manual_seed(0)
    return Amplifies().eval()


def test_it_is_proved_in_float64(module, tmp_path):
    result = bridge.convert(module, torch.randn(3, 5))
    report = result.report
    assert report.verified
    assert report.amplifies
    assert max(c.error for c in report.checks if c.dtype == "float32") > LIMIT
    assert {c.leg for c in report.checks if c.dtype == "float64"} == {bridge.report.TORCH_KERAS}
    assert report.verdict.startswith("proved equal in float64")
    result.save(tmp_path / "m.keras")
    again = bridge.verify(tmp_path / "m.keras", module, torch.randn(3, 5))
    assert again.verdict.startswith("equal within torch's own rounding")


def test_a_wrong_formula_within_that_rounding_is_caught(module, build_with):
    build_with("Sin", lambda x: keras.ops.sin(x) * (1 + 1e-6))
    with pytest.raises(bridge.Mismatch, match="torch ↔ Keras differ by 1e-06 .limit 1e-10") as caught:
        bridge.convert(module, torch.randn(3, 5))
    assert all(check.passed for check in caught.value.report.checks if check.dtype == "float32")


def test_what_is_off_by_more_is_caught_in_float32(module, build_with):
    build_with("Sin", keras.ops.cos)
    with pytest.raises(bridge.Mismatch, match="onnxruntime ↔ Keras differ by .* first at Sin"):
        bridge.convert(module, torch.randn(3, 5))


class NamesAType(Amplifies):
    """One that float64 cannot be had of."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float())


def test_without_float64_the_limit_holds(module):
    with pytest.raises(bridge.Mismatch, match="limit 1e-05"):
        bridge.convert(NamesAType().eval(), torch.randn(3, 5))


class TinySelu(nn.Module):
    """Selu of numbers of which ONNX's formula, by exp(x) - 1, loses the digits that torch's keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(5, 8)
        torch.nn.init.uniform_(self.lin.weight, -1e-6, 1e-6)
        torch.nn.init.zeros_(self.lin.bias)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.selu(self.lin(x))


def test_digits_that_the_exported_formula_loses_are_no_false_alarm():
    torch.manual_seed(0)
    report = bridge.convert(TinySelu().eval(), torch.randn(3, 5)).report
    assert max(c.error for c in report.checks if c.dtype == "float32") > LIMIT
    assert report.verdict.startswith("proved equal in float64")
