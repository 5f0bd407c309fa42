"""torch's MultiheadAttention as Keras's, and attention that is not."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bridge

WIDTH, HEADS = 12, 2
BATCH = {0: "batch", 1: "time"}


class Attend(nn.Module):
    """Attention between two layers, called with what `options` makes of queries and keys."""

    def __init__(self, options: Any, **config: Any) -> None:
        super().__init__()
        self.options, self.first = options, nn.Linear(WIDTH, WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, **{"batch_first": True} | config)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.first(x)
        y = x if y is None else y
        options = {"need_weights": False} | self.options(x, y)
        return self.attention(x, y, y, **options)[0]


def hides_later(x: Tensor, y: Tensor) -> Tensor:
    return torch.ones(x.shape[1], y.shape[1], dtype=torch.bool).triu(1)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def plain(*_: Tensor) -> dict[str, Any]:
    return {}


SELF, CROSS = (random(3, 5, WIDTH),), (random(3, 5, WIDTH), random(3, 4, WIDTH))
WHOLE = {
    "self": (Attend(plain), SELF),
    "no bias": (Attend(plain, bias=False), SELF),
    "dropout": (Attend(plain, dropout=0.3), SELF),
    "time first": (Attend(plain, batch_first=False), SELF),
    "cross": (Attend(plain), CROSS),
    "cross, time first": (Attend(plain, batch_first=False), (random(5, 3, WIDTH), random(4, 3, WIDTH))),
    "other keys": (Attend(plain, kdim=7, vdim=7), (random(3, 5, WIDTH), random(3, 4, 7))),
    "other keys, no bias": (Attend(plain, kdim=7, vdim=7, bias=False), (random(3, 5, WIDTH), random(3, 4, 7))),
    "causal": (
        Attend(lambda x, y: {"attn_mask": hides_later(x, y), "is_causal": True}), SELF,
    ),
    "causal, dropout": (
        Attend(lambda x, y: {"attn_mask": hides_later(x, y), "is_causal": True}, dropout=0.3), SELF,
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", WHOLE.values(), ids=WHOLE)
def test_attention_is_kerass_layer(row: Any, tmp_path: Any) -> None:
    module, args = row
    module.eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4, generator=torch.Generator().manual_seed(1))
    last = {**BATCH, 1: "keys"}
    shapes = tuple([BATCH, last, last][: len(args)] if module.attention.batch_first else [None] * len(args))
    result = bridge.convert(
        module, args, dynamic_shapes=shapes, float64=True, training=not module.attention.dropout
    )
    assert result.report.verified
    (layer,) = (layer for layer in result.model.layers if isinstance(layer, keras.layers.MultiHeadAttention))
    assert layer.name == "attention"
    assert layer._dropout == module.attention.dropout
    state = result.weights.to_torch()
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    result.save(tmp_path / "model.keras")
    inputs = [arg.numpy() for arg in args]
    again = bridge.open(tmp_path / "model.keras").model(inputs if len(inputs) > 1 else inputs[0])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(again), module(*args).detach().numpy(), atol=1e-5)


PRESENT_FORM = {
    "weights wanted": Attend(lambda x, y: {"need_weights": True}),
    "masked": Attend(lambda x, y: {"attn_mask": hides_later(x, y)}),
    "padded": Attend(lambda x, y: {"key_padding_mask": y[..., 0] > 1}),
    "numbers added": Attend(lambda x, y: {"attn_mask": torch.zeros(x.shape[1], y.shape[1])}),
    "a mask for each head": Attend(
        lambda x, y: {"attn_mask": torch.zeros(x.shape[0] * HEADS, x.shape[1], y.shape[1], dtype=torch.bool)}
    ),
    "a key more": Attend(plain, add_bias_kv=True),
    "a zero more": Attend(plain, add_zero_attn=True),
}


@pytest.mark.parametrize("module", PRESENT_FORM.values(), ids=PRESENT_FORM)
def test_attention_that_is_more(module: nn.Module) -> None:
    result = bridge.convert(module.eval(), SELF)
    assert result.report.verified
    assert not [layer for layer in result.model.layers if isinstance(layer, keras.layers.MultiHeadAttention)]


def test_a_layer_that_is_called_twice_is_one_layer() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(2):
                x = x + self.attention(x, x, x, need_weights=False)[0]
            return x

    model = bridge.convert(Twice().eval(), SELF).model
    assert len([layer for layer in model.layers if isinstance(layer, keras.layers.MultiHeadAttention)]) == 1
