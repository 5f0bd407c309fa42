"""Example inputs as people give them: one of a batch, numpy arrays, one dict; and what the free axes are called."""

from __future__ import annotations

import dataclasses
import logging
import re
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from calls import Call
from torch import Tensor, nn
from torch.export import Dim

import bridge

torch.set_num_threads(1)
DRAW = np.random.default_rng(0)


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(3, 5, num_layers=2, batch_first=True), nn.Linear(5, 2)

    def forward(self, x: Tensor, h: Tensor | None = None, c: Tensor | None = None) -> Tensor:
        return self.head(self.lstm(x, None if h is None else (h, c))[0])


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(20, 8), nn.Embedding(10, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, ids: Tensor, places: Tensor, mask: Tensor) -> Tensor:
        return self.layer(self.words(ids) + self.places(places), src_key_padding_mask=mask)


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)

    def forward(self, batch: dict[str, Any]) -> Tensor:
        return self.linear(batch["x"]) + batch["more"][0]


CONV = nn.Sequential(
    nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
)
IDS, PLACES, KEPT = torch.randint(0, 20, (1, 6)), torch.arange(6)[None], torch.zeros(1, 6, dtype=torch.bool)
ONE = {  # a module, an example of one, and the shapes of the Keras model's inputs
    "an image": (CONV, (torch.randn(1, 3, 9, 8),), [(None, 3, 9, 8)]),
    "an array": (CONV, DRAW.normal(size=(1, 3, 9, 8)).astype("f"), [(None, 3, 9, 8)]),
    "a sequence of one": (Tagger(), torch.randn(1, 1, 3), [(None, 1, 3)]),
    "with states": (Tagger(), (torch.randn(1, 7, 3), *torch.randn(2, 2, 1, 5)), [(None, 7, 3), *[(2, None, 5)] * 2]),
    "time first": (nn.GRU(3, 4, 2, bidirectional=True), (torch.randn(1, 1, 3), torch.randn(4, 1, 4)), [(1, None, 3), (4, None, 4)]),
    "a mask and places": (Encoder(), (IDS, PLACES, KEPT), [(None, 6)] * 3),
    "a mask by the size of another": (
        Call(lambda self, ids, mask: self.words(ids) * mask.view(ids.shape[0], -1, 1), words=nn.Embedding(20, 4)), (IDS, torch.rand(1, 6)), [(None, 6)] * 2
    ),
    "a dict": (Named(), {"x": torch.randn(1, 3), "more": [torch.randn(1, 4)]}, [(None, 3), (None, 4)]),
    "over the batch": (Call(lambda self, x: x - x.mean(0) + self.linear(x), linear=nn.Linear(3, 3)), torch.randn(1, 3), [(None, 3)]),
    "a sum": (Call(lambda self, x: self.linear(x).sum(), linear=nn.Linear(3, 3)), torch.randn(1, 3), [(None, 3)]),
    "a loss": (Call(lambda self, x, y: nn.functional.cross_entropy(self.linear(x), y), linear=nn.Linear(3, 3)), (torch.randn(1, 3), torch.tensor([1])), [(None, 3), (None,)]),
    "one of its rows": (Call(lambda self, x: self.linear(x)[0], linear=nn.Linear(3, 3)), torch.randn(1, 3), [(None, 3)]),
    "a row more": (Call(lambda self, x: torch.cat([self.linear(x), x]), linear=nn.Linear(3, 3)), torch.randn(1, 3), [(None, 3)]),
    "how many": (Call(lambda self, x: self.linear(x) / x.shape[0], linear=nn.Linear(3, 3)), torch.randn(1, 3), [(None, 3)]),
    "each with each": (Call(lambda self, x, y: self.linear(x) @ self.linear(y).T, linear=nn.Linear(3, 3)), (torch.randn(1, 3), torch.randn(1, 3)), [(None, 3)] * 2),
    "behind what has none": (Call(lambda self, b, x: b + self.linear(x), linear=nn.Linear(3, 4)), (torch.randn(4), torch.randn(1, 3)), [(4,), (None, 3)]),
    "behind the time": (nn.LSTM(3, 4), torch.randn(7, 1, 3), [(None, None, 3)]),
    "attention behind the time": (nn.TransformerEncoderLayer(8, 2, 16), torch.randn(5, 1, 8), [(None, None, 8)]),
}  # fmt: skip


@pytest.mark.parametrize(("module", "example", "shapes"), ONE.values(), ids=ONE)
def test_an_example_of_one(module: nn.Module, example: Any, shapes: list[tuple[int | None, ...]]) -> None:
    result = bridge.convert(module.eval(), example)
    assert result.report.verified
    assert [tuple(x.shape) for x in result.model.inputs] == shapes
    assert any("the example holds one of a batch" in note for note in result.report.notes)


STAY = {  # where more of it is another function, it stays what it is, and the report says why
    "no axis left": (lambda self, x: self.linear(x).squeeze(), 1, r"with 3 of it an output has the shape \(3,\), and \(\) with one"),
    "a row less": (lambda self, x: self.linear(x).squeeze(0), 3, r"with 3 of it an output has the shape \(3, 3\), and \(3,\) with one"),
    "a list of rows": (lambda self, x: list(self.linear(x)), 3, "with 3 of it the module gives 3 outputs, and 1 with one"),
    "does not run": (lambda self, x: self.linear(x).view(1, 3), 3, "with 3 of it the module does not run: .*invalid for input of size 9"),
    "by the batch": (lambda self, x: self.linear(x) * (2 if len(x) > 1 else 1), 3, "takes another branch"),
    "a sum by the batch": (lambda self, x: self.linear(x).sum() * (2 if x.size(0) == 1 else 1), 3, "with one of it the module computes something else"),
    "each by itself": (lambda self, x: torch.stack([self.linear(row) for row in x]), 3, "or torch does not trace it"),
}  # fmt: skip


@pytest.mark.parametrize(("forward", "outputs", "says"), STAY.values(), ids=STAY)
def test_an_example_of_one_that_stays(forward: Any, outputs: int, says: str) -> None:
    result = bridge.convert(Call(forward, linear=nn.Linear(3, outputs)).eval(), torch.randn(1, 3))
    assert result.report.verified
    assert result.model.inputs[0].shape == (1, 3)
    [note] = [note for note in result.report.notes if "which stays fixed" in note]
    assert re.search(says, note)


SEVERAL = {  # a module, an example of several, the shapes of the inputs, and words of the note if the first axis stays
    "behind what has none": (Call(lambda self, b, x: b + self.linear(x), linear=nn.Linear(3, 4)), (torch.randn(4), torch.randn(2, 3)), [(4,), (None, 3)], ""),
    "attention behind the time": (nn.TransformerEncoderLayer(8, 2, 16), torch.randn(5, 2, 8), [(None, None, 8)], ""),
    "no axis of one": (Call(lambda self, x: self.linear(x).squeeze(0).squeeze((0, 1)), linear=nn.Linear(3, 3)), torch.randn(2, 3), [(None, 3)], ""),
    "by the number": (Call(lambda self, x: self.linear(x) + torch.arange(2.0)[:, None], linear=nn.Linear(3, 3)), torch.randn(2, 3), [(2, 3)], r"axis 0 of input x stays 2 long, as torch fixed it .test_examples.py:\d+, .*arange"),
    "none": (nn.Conv2d(3, 2, 1), torch.randn(3, 5, 5), [(3, 5, 5)], "axis 0 of input input stays 3 long, as torch fixed it"),
}  # fmt: skip


@pytest.mark.parametrize(("module", "example", "shapes", "says"), SEVERAL.values(), ids=SEVERAL)
def test_an_example_of_several(
    module: nn.Module, example: Any, shapes: list[tuple[int | None, ...]], says: str
) -> None:
    result = bridge.convert(module.eval(), example)
    assert result.report.verified
    assert [tuple(x.shape) for x in result.model.inputs] == shapes
    told = [note for note in result.report.notes if "as torch fixed it" in note]
    assert bool(told) == bool(says)
    assert re.search(says, " ".join(told))


CHANNELS = {"image": (torch.randn(2, 3, 9, 8), {0: Dim.AUTO, 2: Dim.DYNAMIC, 3: Dim.AUTO}), "mixed": (torch.randn(2, 3, 9, 8), {0: "rows", 1: Dim.STATIC, 3: Dim.AUTO})}  # fmt: skip
CALLED = {"image": "x: (batch free, 3 fixed, height free, width free)", "mixed": "x: (rows free, 3 fixed, 9 fixed, width free)"}  # fmt: skip


@pytest.mark.parametrize("case", CHANNELS)
def test_what_free_axes_are_called(case: str) -> None:
    example, axes = CHANNELS[case]
    report = bridge.convert(nn.Conv2d(3, 4, 1).eval(), example, dynamic_shapes=(axes,)).report
    assert [str(value).partition(": ")[2] for value in report.inputs] == [CALLED[case].partition(": ")[2]]


def test_a_module_in_training_stays_as_it_was() -> None:
    """Its running statistics do not see the example, and its dropout does not hide the batch."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    result = bridge.convert(module, 5 * torch.randn(1, 3, 8, 7))
    assert result.model.inputs[0].shape == (None, 3, 8, 7)
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


NET = nn.Sequential(nn.Linear(3, 4), nn.ReLU()).eval()
X = torch.randn(2, 3)
with warnings.catch_warnings():  # of what torch is to drop
    warnings.simplefilter("ignore")
    COMPILED, SCRIPT, TRACE = torch.compile(NET), torch.jit.script(NET), torch.jit.trace(NET, X)
    QUANTISED = torch.ao.quantization.quantize_dynamic(NET, {nn.Linear})
    FAKE = nn.Sequential(torch.ao.quantization.fake_quantize.default_fused_act_fake_quant())


@pytest.mark.parametrize("wrapped", [COMPILED, nn.DataParallel(NET), nn.DataParallel(COMPILED)])
def test_wrappers_are_seen_through(wrapped: Any) -> None:
    result = bridge.convert(wrapped, X, verify=False)
    assert set(result.weights.to_torch()) == set(NET.state_dict())


def test_forward_may_write_into_its_inputs() -> None:
    module = Call(lambda self, x: self.net(x.mul_(2)), net=NET).eval()
    assert bridge.convert(module, X.clone()).report.verified


@dataclasses.dataclass
class Answer:
    """What torch does not know as outputs unless it is told."""

    logits: Tensor
    more: dict[str, Tensor]


def test_a_dataclass_of_outputs() -> None:
    module = Call(lambda self, x: Answer(self.net(x), {"twice": 2 * x}), net=NET)
    assert len(bridge.convert(module.eval(), X).model.outputs) == 2


REFUSED = {  # what is given as a module and its inputs, and words of the sentence that it gets
    "a script": (SCRIPT, X, "TorchScript module .* convert the nn.Module that it was made from"),
    "a trace": (TRACE, X, "TorchScript module"),
    "a state_dict": (NET.state_dict(), X, r"load_state_dict\(…\) and convert the module, or bridge.transfer"),
    "a class": (nn.Linear, X, r"a module made of it, Linear\(…\)"),
    "a list of modules": (nn.ModuleList([NET]), X, "ModuleList has no forward, .*: convert the module that calls them"),
    "a function": (torch.relu, X, "in the forward of an nn.Module"),
    "quantised": (QUANTISED, X, r"is quantised \(at 0\)"),
    "text": (Call(lambda self, x: (x, "yes")).eval(), X, r"gives outputs that are no tensors \(str at output\[1\]\)"),
    "a complex input": (nn.Identity(), {"input": torch.zeros(2, dtype=torch.complex64)}, r"input 0\['input'\] is complex"),
    "complex outputs": (Call(lambda self, x: torch.fft.fft(x)).eval(), X, "gives complex numbers"),
    "no inputs": (NET, None, r"needs example inputs.*takes them \(input\), given none: convert\(module, args\)"),
    "another kind": (NET, "text", "given str: convert"),
    "a shape": (NET, (2, 3), r"given int, int: convert\(module, torch.randn\(2, 3\)\)"),
    "an optimizer": (torch.optim.SGD(NET.parameters()), X, "cannot convert torch.optim.sgd.SGD; give an nn.Module"),
    "fake quantisation": (FAKE, X, r"is quantised \(at 0\)"),
    "on no device": (nn.Linear(3, 3, device="meta"), X, "on the device 'meta', where weight holds no numbers: module.to_empty"),
    "an input on none": (NET, X.to("meta"), "input 0.* on the device 'meta', without numbers"),
    "a sparse input": (NET, X.to_sparse(), "no plain tensor of one shape"),
    "random": (Call(lambda self, x: x + torch.rand(2, 3)).eval(), X, "other outputs each time .* an input of forward, or draw only where self.training"),
    "nothing": (Call(lambda self, x: {"y": None}).eval(), X, "gives nothing: give tensors"),
}  # fmt: skip


@pytest.mark.parametrize(("module", "example", "says"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_module(module: Any, example: Any, says: str) -> None:
    with pytest.raises(bridge.SourceError, match=says):
        bridge.convert(module, example)


UNFIT = {  # what does not run, and words of what is told of it
    "another precision": (nn.Linear(3, 4).half(), X, r"same dtype.*given float32\[2, 3\]; forward takes \(input\), its weights are float16: give .* x.to\(torch.float16\)"),
    "another shape": (NET, X[:, :2], r"at 0, Linear\(in_features=3, out_features=4, bias=True\); given float32\[2, 2\]"),
    "another kind": (NET, X.long(), r"given int64\[2, 3\]; .*: give them as its weights are, x.to\(torch.float32\)"),
    "a GPU": (Call(lambda self, x: x.to("cuda:99")).eval(), X, "asks for a GPU, which is not here; .* write x.device"),
    "one dict for several names": (Tagger(), {"x": X, "h": X}, r"name its inputs, kwargs={…}"),
}  # fmt: skip


@pytest.mark.parametrize(("module", "example", "says"), UNFIT.values(), ids=UNFIT)
def test_an_example_that_does_not_fit(module: nn.Module, example: Any, says: str) -> None:
    with pytest.raises(bridge.ExportError, match=f"does not run on the args given.*{says}"):
        bridge.convert(module, example)


class Straight(torch.autograd.Function):
    """Rounds, and lets the gradient through."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def test_a_gradient_that_a_function_brings_is_named() -> None:
    module = Call(lambda self, x: Straight.apply(4 * self.net(x)), net=nn.Linear(3, 4)).eval()
    with pytest.raises(bridge.MismatchError, match="gradients.*Straight brings its own gradient") as caught:
        bridge.convert(module, X, verify=bridge.Verify(training=True))
    assert any("Straight brings its own gradient" in note for note in caught.value.report.notes)
    assert isinstance(vars(torch.autograd.Function)["apply"], classmethod)


def _branching(self: nn.Module, x: Tensor) -> Tensor:
    if torch.compiler.is_compiling():
        # as torch says of its second attempt
        logging.getLogger("torch._guards").error("Error while creating guard")
    return x if x.sum() > 0 else -x


def test_nothing_is_printed_about_a_branch_on_numbers(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(bridge.ExportError, match=r"depends on the numbers .*test_examples.py"):
        bridge.convert(Call(_branching).eval(), X)
    assert capfd.readouterr() == ("", "")
