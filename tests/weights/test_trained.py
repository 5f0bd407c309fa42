"""What torch trains trains in Keras, what it does not does not, and what is lost the verdict names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from calls import Call
from torch import Tensor, nn
from torch.nn import functional as F

import bridge
from bridge.report.report import Untrained

torch.set_num_threads(1)


Function = Callable[[Any, Tensor], Tensor]


def reads(function: Function) -> Call:
    """Two layers, a number and a table, and what reads them."""
    torch.manual_seed(0)
    return Call(
        lambda m, x: m.second(function(m, x)),
        first=nn.Linear(4, 6),
        second=nn.Linear(6, 4),
        number=nn.Parameter(torch.tensor([0.3])),
        table=nn.Parameter(torch.randn(5, 4)),
    ).eval()


def _replaced_in_part(m: Call, x: Tensor) -> Tensor:
    bias = m.first.bias.clone()
    bias[2:4].zero_()
    return F.linear(x, m.first.weight, bias)


def _under_no_grad(m: Call, x: Tensor) -> Tensor:
    with torch.no_grad():
        hidden = m.first(x).relu()
        with torch.enable_grad():
            hidden = hidden * m.number
    return hidden


def _weight_under_no_grad(m: Call, x: Tensor) -> Tensor:
    with torch.no_grad():
        weight = m.first.weight * 2
    return F.linear(x, weight, m.first.bias)


ALL = {"first.weight", "first.bias", "second.weight", "second.bias"}
READERS: dict[str, tuple[Function, set[str]]] = {  # and what torch trains
    "a bias that is replaced in part": (_replaced_in_part, ALL),
    "a kernel in part": (lambda m, x: x @ m.first.weight[::2].T.repeat(1, 2), ALL - {"first.bias"}),
    "a table cut where the data end": (lambda m, x: m.first(x + m.table[: x.shape[0]]), ALL | {"table"}),
    "a matrix for each head": (
        lambda m, x: m.first(
            (x.repeat(1, 3).view(-1, 3, 2, 2).transpose(1, 2) @ m.table[:4].view(2, 2, 4)).sum((1, 2))
        ),
        ALL | {"table"},
    ),
    "slopes for each row": (lambda m, x: m.first(torch.where(x > 0, x, m.table[:3] * x)), ALL | {"table"}),
    "under no_grad": (_under_no_grad, ALL - {"first.weight", "first.bias"} | {"number"}),
    "a weight under no_grad": (_weight_under_no_grad, ALL - {"first.weight"}),
    "detached": (
        lambda m, x: m.first(x).detach() * m.number,
        ALL - {"first.weight", "first.bias"} | {"number"},
    ),
    "detached here, not there": (lambda m, x: m.first(x).detach() + m.first(x), ALL),
    "data": (lambda m, x: m.first(x) * m.number.data, ALL),
}


@pytest.mark.parametrize("reader", READERS)
def test_the_same_parameters_train_and_all_come_back(reader: str) -> None:
    function, trained = READERS[reader]
    module = reads(function)
    with torch.no_grad():  # as people convert
        result = bridge.convert(module, torch.randn(3, 4), verify=bridge.Verify(training=True))
    names = {n for e in result.weights if e.variable.trainable for n in e.recipe.names}
    assert names == trained
    assert result.report.untrained == ()
    used = {name for entry in result.weights for name in entry.recipe.names}
    told = [note for note in result.report.notes if "no gradient reaches" in note]
    assert [name for name in sorted(used - trained) if name not in "".join(told)] == []
    state = result.weights.to_torch()
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())


def test_what_no_layer_trains_is_named_in_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    from bridge.ops import indexing

    monkeypatch.setattr(indexing, "_tensor", lambda site, x: getattr(x, "numpy", lambda: x)())
    module = reads(READERS["a bias that is replaced in part"][0])
    report = bridge.convert(module, torch.randn(3, 4)).report
    assert report.untrained == (Untrained("first.bias", 6, "Slice takes it as a constant"),)
    assert report.verdict.splitlines()[1] == (
        "6 of 79 parameters do not train: first.bias (Slice takes it as a constant)"
    )


def test_a_buffer_that_is_a_constant_takes_no_other_numbers(tmp_path) -> None:
    module = Call(lambda m, x: m.first(x) * m.scale, first=nn.Linear(4, 6))
    module.register_buffer("scale", torch.rand(6))
    module.register_buffer("steps", torch.tensor(7))  # which forward does not read
    result = bridge.convert(module.eval(), torch.randn(3, 4), verify=False)
    newer = {name: value + 1 for name, value in module.state_dict().items()}
    for weights in (result.weights, bridge.load(result.save(tmp_path / "m.keras")).weights):
        with pytest.raises(
            bridge.WeightsError, match="^scale is a constant of this model, and is another now"
        ):
            weights.load_torch(newer)
        weights.load_torch({**newer, "scale": module.scale})
        assert weights.to_torch()["steps"] == 8
