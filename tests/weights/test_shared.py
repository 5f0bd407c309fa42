"""A parameter that is used in several forms is one variable, or said to be several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest
import torch
from calls import Call
from torch import Tensor, nn
from torch.nn import functional as F

import bridge

torch.set_num_threads(1)


def reads(function: Callable[[Any, Tensor], Tensor]) -> Call:
    """A matrix, and what reads it."""
    torch.manual_seed(0)
    return Call(function, first=nn.Linear(4, 6), bias=nn.Parameter(torch.randn(4))).eval()


PRODUCTS = {
    "a tied autoencoder": lambda m, x: F.linear(m.first(x).tanh(), m.first.weight.T, m.bias),
    "without biases": lambda m, x: x @ m.first.weight.T @ m.first.weight,
    "with a bias and without": lambda m, x: m.first(x) + (x * x) @ m.first.weight.T,
    "three times": lambda m, x: m.first((m.first(x).tanh() @ m.first.weight).tanh()),
}


@pytest.mark.parametrize("shape", [(3, 4), (2, 5, 4)], ids=["lines", "sequences"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_products_share_one_variable(name: str, shape: tuple[int, ...], tmp_path) -> None:
    module = reads(PRODUCTS[name])
    result = bridge.convert(module, torch.randn(shape), verify=bridge.Verify(training=True))
    assert result.report.verified
    assert len([e for e in result.weights if "first.weight" in e.recipe.names]) == 1
    assert result.report.trainable <= result.report.source_parameters
    state = result.weights.to_torch()
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())
    keras.saving.load_model(result.save(tmp_path / "m.keras"))


def test_the_same_layer_twice_stays_that_layer() -> None:
    module = nn.Sequential(layer := nn.Linear(4, 4), nn.Tanh(), layer).eval()
    model = bridge.convert(module, torch.randn(3, 4)).model
    assert [type(x).__name__ for x in model.layers if x.weights] == ["Dense"]


def test_variables_that_train_apart_are_named_and_do_not_go_back_unlike() -> None:
    """A kernel that is a number beside the layer, too, is no single variable."""
    module = reads(lambda m, x: m.first(x) * m.first.weight.sum())
    result = bridge.convert(module, torch.randn(3, 4))
    report = bridge.convert(module, torch.randn(3, 4), verify=bridge.Verify(training=True)).report
    assert "first.weight: trains apart in Keras: only the gradients were compared" in report.notes
    (entry, _) = [e for e in result.weights if "first.weight" in e.recipe.names]
    assert any(n.startswith("first.weight is ") and "trains apart" in n for n in result.report.notes)
    result.weights.to_torch()
    entry.variable.assign(entry.variable.value * 2)
    with pytest.raises(bridge.WeightsError, match=r"first\.weight is .* and .*, which have trained apart"):
        result.weights.to_torch()
