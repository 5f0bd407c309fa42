"""Modules in half, double and several precisions: proved within what the precision allows, weights back bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
import torch
from torch import nn

import bridge
from bridge.errors import NotRun
from bridge.frontend import source
from bridge.report import html
from bridge.verification.checks import GRADIENTS, ORT_KERAS, TORCH_KERAS
from bridge.verification.outputs import Rounding, _in_double
from bridge.verification.trials import Trial

torch.set_num_threads(1)
HALF, DOUBLE, BRAIN = torch.float16, torch.float64, torch.bfloat16


class Mixed(nn.Module):
    """Half weights around a normalisation in single precision."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.norm, self.after = nn.Linear(8, 8).half(), nn.LayerNorm(8), nn.Linear(8, 4).half()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.norm(self.before(x).float()).half())


class Named(nn.Module):
    """Whatever it is given in, it takes a root in single precision, as many normalisations do."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.before(x).float()
        return self.after((y * torch.rsqrt((y * y).mean(-1, keepdim=True) + 1e-3)).to(x.dtype))


class Each(nn.Module):
    """A function of x and a part."""

    def __init__(self, function: Any, part: nn.Module) -> None:
        super().__init__()
        self.function, self.part = function, part

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x, self.part)


def convolution() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))


ROWS = [
    # module, input, precision, what a report says of it
    (lambda: nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 4)), (2, 8), HALF, "in float16"),
    (convolution, (2, 3, 8, 8), HALF, "in float16"),
    (lambda: nn.LSTM(8, 5, batch_first=True), (2, 7, 8), HALF, "in float16"),
    (convolution, (2, 3, 8, 8), DOUBLE, "ONNX's reference evaluator"),
    (lambda: nn.LSTM(8, 5, batch_first=True), (2, 7, 8), DOUBLE, "ONNX's reference evaluator"),
    (lambda: nn.Sequential(nn.RMSNorm(8), nn.CELU(1.3)), (2, 8), DOUBLE, "proved equal in float64"),
]


@pytest.mark.parametrize(("make", "shape", "dtype", "said"), ROWS)
def test_a_precision_is_proved_and_named(make, shape, dtype, said) -> None:
    torch.manual_seed(0)
    module = make().to(dtype).eval()
    result = bridge.convert(module, torch.randn(shape).to(dtype))
    report, back = result.report, result.weights.to_torch()
    assert report.dtype == str(dtype).removeprefix("torch.")
    assert report.verdict.startswith("proved equal in float64")
    assert said in str(report)
    exact = [check for check in report.checks if check.dtype == "float64"][-1]
    assert exact.error < exact.limit < 1e-9
    for name, tensor in module.state_dict().items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor)


class Attending(nn.Module):
    """Which becomes an operator of ours, beside a root in single precision."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.layer = nn.LSTM(8, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.attention(x, x, x)[0].float()
        return self.layer((y * torch.rsqrt((y * y).mean(-1, keepdim=True) + 1e-3)).to(x.dtype))[0]


def test_operators_of_ours_are_compared_in_float64_throughout() -> None:
    torch.manual_seed(0)
    report = bridge.convert(
        Attending().eval(), torch.randn(2, 3, 8), verify=bridge.Verify(float64=True)
    ).report
    limits = {check.leg: check.limit for check in report.checks if check.dtype == "float64"}
    assert limits[ORT_KERAS] == 1e-10 < limits[TORCH_KERAS] < 1e-5


class Masked(nn.Module):
    """Which names a type where nothing is rounded, as torch does in its own causal mask."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.norm = nn.MultiheadAttention(8, 2, batch_first=True), nn.LayerNorm(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        return self.norm(self.attention(x, x, x, attn_mask=mask)[0])


def test_a_type_that_rounds_nothing_bounds_nothing() -> None:
    torch.manual_seed(0)
    report = bridge.convert(Masked().eval(), torch.randn(2, 3, 8), verify=bridge.Verify(float64=True)).report
    exact = {(check.leg, check.limit) for check in report.checks if check.dtype == "float64"}
    assert exact == {(TORCH_KERAS, 1e-10)}


def test_training_is_compared_of_what_names_a_type(tmp_path) -> None:
    module, x = Masked().eval(), torch.randn(2, 3, 8)
    result = bridge.convert(module, x, verify=bridge.Verify(training=True))
    assert {check.leg for check in result.report.checks} >= {GRADIENTS, "steps of SGD"}
    result.save(tmp_path / "m.keras")
    report = bridge.verify(tmp_path / "m.keras", module, x, options=bridge.Verify(training=True))
    assert report.verified
    assert GRADIENTS in {check.leg for check in report.checks}


def test_a_fault_of_the_export_is_no_rounding(monkeypatch) -> None:
    """Of a module that runs in float64 only as if it named no type."""
    load = source.load_torch

    def changed(*given: object) -> source.Source:
        right = load(*given)
        norm = next(node for node in right.model.graph if node.op_type == "LayerNormalization")
        norm.attributes.add(ir.AttrFloat32("epsilon", 1.2e-5))
        return right

    monkeypatch.setattr(source, "load_torch", changed)
    with pytest.raises(bridge.MismatchError) as caught:
        bridge.convert(Masked().eval(), torch.randn(2, 3, 8), verify=bridge.Verify(float64=True))
    assert caught.value.report.origin.stage == "export"
    assert caught.value.report.origin.op == "LayerNormalization"


@pytest.mark.parametrize("dtype", [HALF, BRAIN])
def test_a_source_that_names_a_precision_is_proved_by_its_graph(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    report = bridge.convert(Named().to(dtype).eval(), torch.randn(2, 8, dtype=dtype)).report
    assert report.proved
    assert any("in float64 too the source computes in float32" in note for note in report.notes)
    limits = {check.leg: check.limit for check in report.checks if check.dtype == "float64"}
    assert limits[ORT_KERAS] == 1e-10 < limits[TORCH_KERAS] < 1e-5


def test_a_file_whose_function_is_told_the_type() -> None:
    """And a node of a domain that nobody knows has an attribute of that name."""
    text = """<ir_version: 10, opset_import: ["": 21, "f": 1]> g (float[n,4] x) => (float[n,4] y) { y = f.rounded <to = 1> (x) }
        <domain: "f", opset_import: ["": 21]> rounded <to> (x) => (y) { h = Cast <to = 10> (x)  z = Tanh (h)  y = Cast <to: int = @to> (z) }"""
    assert bridge.convert(onnx.parser.parse_model(text)).report.dtype == "float16"


def test_a_report_names_the_precision(tmp_path) -> None:
    torch.manual_seed(0)
    module, x = nn.Linear(8, 4).half().eval(), torch.randn(2, 8).half()
    assert bridge.convert(module, x, verify=False).report.dtype == "float16"
    result = bridge.convert(module, x)
    report = result.report
    assert bridge.Report.from_json(report.to_json()) == report
    assert {check.dtype for check in report.checks} == {"float16", "float64"}
    assert report.limit == 1e-2
    for text in (str(report), html.render(report)):
        assert "in float16)" in text.replace("\n", " ")
        assert "float32" not in text
    result.save(tmp_path / "half.keras")
    again = bridge.verify(tmp_path / "half.keras", module, x)
    assert again.verdict.startswith("equal within the rounding of float16")


class Large(nn.Module):
    """A sine of numbers so large that the rounding of float64 shows."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(5, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(3e7 * torch.sigmoid(self.lin(x)))


def test_a_double_that_amplifies_is_allowed_its_rounding() -> None:
    torch.manual_seed(0)
    report = bridge.convert(Large().double().eval(), torch.randn(3, 5).double()).report
    assert 1e-10 < max(check.error for check in report.checks) < 1e-6
    assert report.verdict.startswith("proved equal in float64")


def test_a_double_file_is_run_by_nodes_whose_kernel_has_no_double() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]> g (double[t,n,4] x) => (double[t,d,n,5] y)
        <double[1,20,4] w, double[1,20,5] r> { y = LSTM <hidden_size = 5> (x, w, r) }"""
    model, numbers = onnx.parser.parse_model(text), np.random.default_rng(0)
    for name, shape in (("w", (1, 20, 4)), ("r", (1, 20, 5))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(numbers.normal(size=shape), name))
    del model.graph.value_info[:]
    report = bridge.convert(model).report
    assert report.verdict.startswith("proved equal in float64")
    assert "LSTM operator does not support double" in str(report).replace("\n", " ")


def test_a_half_file_is_proved_in_float64() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]> g (float16[n,5] x) => (float16[n,5] y)
        { s = Sigmoid (x)  y = Sin (s) }"""
    report = bridge.convert(onnx.parser.parse_model(text)).report
    assert report.dtype == "float16"
    assert report.verdict.startswith("proved equal in float64")


def test_training_in_half_is_compared_in_float64() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 4)).half()
    report = bridge.convert(module, torch.randn(2, 8).half(), verify=bridge.Verify(training=True)).report
    assert report.verified
    assert {check.dtype for check in report.checks if check.leg == GRADIENTS} == {"float64"}


def test_gradients_of_what_was_saved_in_half_are_refused(tmp_path) -> None:
    module, x = nn.Linear(8, 4).half(), torch.randn(2, 8).half()
    bridge.convert(module, x).save(tmp_path / "half.keras")
    with pytest.raises(bridge.SourceError, match="float16 says nothing of the gradients"):
        bridge.verify(tmp_path / "half.keras", module, x, options=bridge.Verify(training=True))
    with pytest.raises(bridge.SourceError, match="in the precision that it was saved in"):
        bridge.verify(tmp_path / "half.keras", module, x, options=bridge.Verify(float64=True))


def test_several_precisions_are_proved_within_the_coarsest() -> None:
    torch.manual_seed(0)
    module = Mixed().eval()
    result = bridge.convert(module, torch.randn(2, 8).half())
    assert result.report.verdict.startswith("proved equal in float64")
    assert any("as if it named no other" in note for note in result.report.notes)
    assert {str(weight.dtype) for weight in result.model.weights} == {"float16", "float32"}
    assert all(torch.equal(result.weights.to_torch()[k], v) for k, v in module.state_dict().items())


def test_a_wrong_formula_in_half_is_caught_in_double(build_with) -> None:
    import keras

    build_with("Sin", lambda x: keras.ops.sin(x) * (1 + 1e-6))
    module = Each(lambda x, f: torch.sin(f(x)), nn.Linear(8, 4)).half().eval()
    with pytest.raises(bridge.MismatchError, match="limit 1e-10"):
        bridge.convert(module, torch.randn(2, 8).half())


class Brain(nn.Module):
    """Each of what computes in bfloat16 in its own way: lookups, products, attention, a normalisation, steps."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.norm, self.parts = nn.Embedding(20, 8), nn.LayerNorm(8), nn.Linear(8, 24)
        self.steps = nn.GRU(8, 6, batch_first=True)

    def forward(self, ids: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.words(ids) + x).unsqueeze(1)
        query, key, value = self.parts(y).split(8, -1)
        y = nn.functional.scaled_dot_product_attention(query, key, value).squeeze(1)
        return self.steps(y)[0].softmax(-1)


def test_bfloat16_is_proved_in_float64_and_comes_back(tmp_path: Path) -> None:
    module = Brain().to(BRAIN).eval()
    args = torch.randint(0, 20, (2, 5)), torch.randn(2, 5, 8, dtype=BRAIN)
    result = bridge.convert(module, args, verify=bridge.Verify(training=True))
    assert result.report.dtype == "bfloat16"
    assert "proved equal in float64" in result.report.verdict
    state = bridge.load(result.save(tmp_path / "model.keras")).weights.to_torch()
    for name, held in module.state_dict().items():
        assert state[name].dtype == BRAIN
        assert torch.equal(state[name], held)


def test_a_cell_gives_a_tuple_while_torch_traces() -> None:
    module = Each(lambda x, f: state[0] if isinstance(state := f(x), tuple) else state[1], nn.LSTMCell(4, 3))
    assert bridge.convert(module, torch.randn(2, 4)).report.verified


def test_training_without_parameters_compares_what_there_is() -> None:
    module = nn.Sequential(nn.Dropout(0.3), nn.BatchNorm1d(4, affine=False)).eval()
    report = bridge.convert(module, torch.randn(6, 4), verify=bridge.Verify(training=True)).report
    assert {"running statistics", "dropout rates"} <= {check.leg for check in report.checks}


def test_sizes_at_which_torch_gives_infinities_that_onnxruntime_does_not_are_told() -> None:
    module = Each(
        lambda x, f: torch.relu(-f(x)) * 0, nn.MaxPool1d(2, 2, padding=1, dilation=2, ceil_mode=True)
    )
    report = bridge.convert(module, torch.randn(2, 4, 7), dynamic_shapes=({2: "time"},)).report
    assert "not compared at time=1 where torch gives NaN or infinities" in str(report).replace("\n", " ")


def test_noise_around_zero_is_measured_as_the_source_is() -> None:
    """What is normalised is the same everywhere: zero, but for rounding, which is all in torch and none in others."""
    torch.manual_seed(0)
    module = Each(lambda x, f: f(x[..., None].expand(-1, -1, 3)), nn.InstanceNorm1d(5, eps=1e-3))
    assert bridge.convert(module, 1e-3 * torch.randn(2, 5)).report.verified


@pytest.mark.parametrize(
    ("rounded", "moved", "passes"),
    [(1.0, 1e-7, True), (1.0, 1e-9, False), (0.1, 1e-7, False), (1.0, 1.0, False)],
    ids=["no digit is left", "nor do bits of float64 move it", "digits are left", "more than any limit"],
)
def test_what_single_precision_cannot_measure_is_measured_in_double(rounded, moved, passes):
    """Off by 5e-8, or by 1e-4 where last bits move everything."""
    off = 5e-8 if moved < 1 else 1e-4
    want = np.ones(3)
    trial = Trial({}, [], None, [want], dtype="float64")
    check = _in_double("leg", trial, [want + off], [([want - rounded], 2.0**-29)], moved)
    assert check.passed == passes


def test_a_size_that_single_precision_does_not_run_at_is_noted(monkeypatch):
    """The source in float64 is run by another, which knows fewer bounds."""

    def roundings(opened, dtype, wide):
        def single(inputs):
            if len(inputs[0]) > 3:
                raise NotRun("too long")
            return wide.run(inputs)

        yield Rounding(single)

    monkeypatch.setattr("bridge.verification.double._roundings", roundings)
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 23]> g (float[N] x) => (float[N] y) { y = Tanh (x) }'
    )
    report = bridge.convert(model, verify=bridge.Verify(float64=True)).report
    assert report.verified
    assert any("too long" in note for note in report.notes)


class Attends(nn.Module):
    """Attention whose scores leave the range of a half where its inputs are large."""

    def __init__(self, whole: bool, dropout: float = 0.0, masked: bool = False) -> None:
        super().__init__()
        self.masked = masked
        self.whole = nn.MultiheadAttention(16, 2, batch_first=True, dropout=dropout) if whole else None
        self.packed = nn.Linear(16, 48)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.whole is not None:
            mask = torch.zeros(x.shape[:2], dtype=torch.bool) if self.masked else None
            return self.whole(x, x, x, mask, need_weights=False)[0]
        parts = (part.unflatten(-1, (2, 8)).transpose(1, 2) for part in self.packed(x).chunk(3, -1))
        return nn.functional.scaled_dot_product_attention(*parts)


@pytest.mark.parametrize(
    "attends",
    [Attends(True), Attends(True, 0.3), Attends(True, 0.3, masked=True), Attends(False)],
    ids=["layer", "dropout", "mask", "function"],
)
def test_attention_in_half_is_finite_where_torch_is(attends: nn.Module, tmp_path) -> None:
    torch.manual_seed(0)
    for parameter in attends.parameters():
        nn.init.normal_(parameter, std=0.5)
    module, x = attends.half().eval(), torch.randn(2, 5, 16).half()
    result = bridge.convert(module, x)
    assert result.report.verified
    large, model = 200 * x, keras.models.load_model(result.save(tmp_path / "half.keras"))
    want, got = module(large).detach().numpy(), keras.ops.convert_to_numpy(model(large.numpy()))
    assert np.isfinite(want).all()
    assert got.dtype == np.float16
    np.testing.assert_allclose(got, want, atol=1e-2 * np.abs(want).max())
    assert all(
        torch.equal(tensor, module.state_dict()[name]) for name, tensor in result.weights.to_torch().items()
    )
